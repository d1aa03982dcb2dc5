"""The documentation site: Markdown pages and the reference from docstrings.

    python -m sphinx -W --keep-going docs build/site

Every warning is an error: a link to nowhere, a name in a docstring that does not exist, a page in no menu.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import kreludomain

project = "kreludomain"
version = release = kreludomain.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
highlight_language = "none"
nitpicky = True
#: What is not ours is a name without a link: the site is built and read without a network.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|np|numpy|scipy|sparse|collections|concurrent|pathlib|onnx|onnxruntime|pandas|pydantic)\..*"),
    (r"py:class", r"Tensor|Shape|(.*\.)?Item|(tuple|dict|list)\[.*|.*\._\w+"),
]

html_theme = "furo"
html_title = f"kreludomain {version}"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

#: The modules of the reference in their order; a name that several of them have is described at the first one only.
ROOMS = (
    *("activations", "network", "network.operators", "property", "data", "options", "domain", "groups"),
    *("programs", "programs.solvers", "bounding", "bounding.dual"),
    *("branching", "attack", "branching.milp", "verify", "run.engine.pool", "run.engine.worker"),
    *("analysis.lipschitz", "analysis.invert", "analysis.moments", "analysis.reachable"),
)
MODULES = ("kreludomain", *(f"kreludomain.{room}" for room in ROOMS))


def described_before(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out what an earlier module of the reference has."""
    module = app.env.current_document.autodoc_module
    if what != "module" or module not in MODULES:
        return None
    earlier = map(importlib.import_module, MODULES[: MODULES.index(module)])
    return True if any(getattr(other, name, None) is obj and name in public(other) for other in earlier) else None


def public(module: ModuleType) -> Sequence[str]:
    """The names that the reference has of a module."""
    here = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", here)


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.reference | None:
    """The one thing of that name, wherever it is described: docstrings say ``Bounds`` and not where it is defined."""
    if node.get("refdomain") != "py":
        return None
    domain, last = env.domains.python_domain, node["reftarget"].split(".")[-1]
    found = [name for name, it in domain.objects.items() if name.split(".")[-1] == last and not it.aliased]
    if len(found) > 1:  # several rooms have one: it is that of the room where it is said
        whole = node["reftarget"] if node["reftarget"].startswith("kreludomain.") else node.get("py:module") or ""
        found = [name for name in found if name.split(".")[:3] == whole.split(".")[:3]]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def without_factories(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A default that is made anew for each object is ``...``: what Python shows of it cannot be parsed."""
    return signature and signature.replace("<factory>", "..."), returned


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-skip-member", described_before)
    app.connect("autodoc-process-signature", without_factories)
    app.connect("missing-reference", find_by_last_name)
    return {"parallel_read_safe": True}
