"""Builds the optional native module: in place for an editable install, into the wheel otherwise.

Without a C compiler, without Python's headers, off Linux, or where the compiler fails, it is left out: slobench then
reads with its twin in Python. SLOBENCH_NATIVE=no leaves it out, SLOBENCH_NATIVE=must fails instead of leaving it out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface[Any]):
    """Builds the module where a wheel is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and mark the wheel as one for this platform; or say why not, and go on."""
        del version
        root, wanted = Path(self.root), os.environ.get("SLOBENCH_NATIVE", "")
        sys.path.insert(0, str(root / "scripts"))
        from build_native import SOURCE, build, module_path

        folder = root / SOURCE.parent
        module_path(folder).unlink(missing_ok=True)  # built from an older source, perhaps
        if wanted == "no":
            return
        try:
            built = build(root / SOURCE, folder)
        except (RuntimeError, OSError) as error:
            if wanted == "must":
                raise
            self.app.display_warning(f"slobench: the native receiver is left out: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(built.relative_to(root).as_posix())
