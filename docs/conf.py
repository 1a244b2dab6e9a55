"""How Sphinx builds these pages: `make docs`. Nothing on them is loaded from elsewhere."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "iVideoGPT in JAX"
language = "en"
exclude_patterns = ["_build", "_ext"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "generated", "mathml"]

myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
add_module_names = False

suppress_warnings = ["ref.python"]  # return types such as bytes have the names of properties, too
smartquotes = False  # options begin with two hyphens

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"footer_icons": []}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
