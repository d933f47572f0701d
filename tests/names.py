"""Names of classes, files and domains, and captions, as users have them."""

HOSTILE = [
    "sea horse",
    "a|b",
    "c++",
    "c#",
    "C++",
    "$x_1$ and $",
    "<script>alert(1)</script>",
    "</td><b>",
    "*a* **b** _c_ __d__ ~e~",
    "`f` \"g\" 'h' a--b ...",
    "[i](https://example.org) ![j](k.png)",
    "```{include} params.yaml ```",
    "{include}`params.yaml`",
    "&lt; &amp;",
    "\\(x\\) \\alpha",
    "$\\frac{$ % comment",  # no formula of matplotlib's
    "@user #1 {{ x }} {target}",
    "猫",
    "犬",
    "é",
    "e\u0301",
    "NA",
]
