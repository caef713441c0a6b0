"""The one thing that pyproject.toml cannot say: kernel sources lie in cuda/, which is no package, and ship as data."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SUFFIXES = (".h", ".cpp", ".cuh", ".cu")


class WithKernels(build_py):
    """Builds the packages, and puts the kernel sources into unept/ops/kernels of what is built."""

    def run(self) -> None:
        """Run the build as usual, then copy the kernel's sources into the package."""
        super().run()
        if self.editable_mode:  # the checkout's own cuda/ is used
            return
        target = Path(self.build_lib, "unept", "ops", "kernels")
        target.mkdir(parents=True, exist_ok=True)
        for source in sorted(Path(__file__).parent.glob("cuda/*")):
            if source.suffix in SUFFIXES:
                shutil.copy2(source, target / source.name)


setup(cmdclass={"build_py": WithKernels})
