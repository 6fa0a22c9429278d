"""Every check, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.doctor.check import Check, Status
from toolkit.doctor.deployment import check_files
from toolkit.doctor.machine import check_gpu, check_machine
from toolkit.doctor.packages import check_optional, check_python, check_required, check_shared_names
from toolkit.plugin.manager import BUILTIN_PLUGINS, PluginManager


def examine(plugins: PluginManager, root: Path | None = None) -> Iterator[tuple[str, Sequence[Check]]]:
    """Title and checks of each section, as soon as it is done; files only under a `root`.

    Raises InputError for a `root` that is no folder, and for plugins that clash.
    """
    if root is not None:
        yield f"files under {root}", check_files(root)
    packages = [*check_python(), *check_required()]
    yield "packages", [*packages, *check_shared_names()]
    yield "optional packages", check_optional()
    yield "machine", [*check_machine(root or Path.cwd()), *check_gpu()]
    if all(check.status is Status.OK for check in packages):
        import torch

        from toolkit.doctor.gpu_sessions import check_gpu_sessions
        from toolkit.doctor.self_test import check_custom_ops, check_kernels

        yield "sessions on the GPU", check_gpu_sessions()
        ops = plugins.custom_ops()
        builtin = [op for plugin, op in plugins.offered_custom_ops() if plugin in BUILTIN_PLUGINS]
        yield "custom ops, converted", check_custom_ops(ops, builtin)
        if torch.cuda.is_available():
            yield "custom ops on the GPU", check_kernels(ops, builtin)
