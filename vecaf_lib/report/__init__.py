"""From run files to tables, figures and one offline HTML report; nothing here needs torch."""
