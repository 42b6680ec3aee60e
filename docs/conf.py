"""Sphinx: the site of `make docs`, made of the repository's own pages, which GitHub shows too.

Its source folder is the root of the repository, so that a link is the same for both; this folder
has the configuration. Nothing is fetched, neither here nor by the pages.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

from pyro_metacadi import __version__ as release  # noqa: E402

project = "pyro_metacadi"
author = "The pyro_metacadi developers"
project_copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "code_links",
    "command_help",
    "docstring_fields",
    "mathml",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "docs/**.rst", "notebooks/*.ipynb"]
exclude_patterns = [".*", "out", "build", "dist", "tests", "benchmarks", "pyro_metacadi"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs, which the tests remake

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented_params"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style")]
default_role = "py:obj"  # `name` in a docstring: a link where the name is known
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"pyro_metacadi {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_additional_pages = {"index": "to_start.html"}
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
