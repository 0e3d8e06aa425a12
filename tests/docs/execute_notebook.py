"""Run a notebook from top to bottom with this interpreter and write it with its outputs: `python execute_notebook.py IN OUT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient


def main(source: Path, target: Path) -> None:
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    kernel = AsyncKernelManager(kernel_name="python3")
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel._kernel_spec = KernelSpec(argv=command)  # this interpreter, whatever kernels the machine knows
    where = {"metadata": {"path": str(source.resolve().parent)}}
    client = NotebookClient(notebook, km=kernel, timeout=600, resources=where, record_timing=False)
    asyncio.run(client.async_execute())
    nbformat.write(notebook, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
