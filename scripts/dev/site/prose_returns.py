"""For the documentation: let a Returns section be prose, since the hint says the type already."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Function

SECTION = re.compile(r"^((?:Returns|Yields)\n-+\n)((?:.+\n?)+)", re.MULTILINE)


class ProseReturns(Extension):
    """A colon alone is what griffe takes for an item whose type is that of the hint."""

    def on_function(self, *, func: Function, **kwargs: Any) -> None:
        """Turn the prose into the text of such an item."""
        if func.docstring is not None:
            func.docstring.value = SECTION.sub(
                lambda match: match[1] + ":\n" + textwrap.indent(match[2], "    "), func.docstring.value
            )
