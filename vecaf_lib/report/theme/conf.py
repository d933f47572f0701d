"""Sphinx settings of the report: offline, nothing executed."""

extensions = ["myst_nb", "vecaf_lib.report.sphinx_offline"]
html_theme = "furo"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["report.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_title = "VeCAF report"
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # commonmark knows no tables
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_update_mathjax = False
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": "{{path}}"}
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "config.cache"]
pygments_style = "tango"
pygments_dark_style = "github-dark"
