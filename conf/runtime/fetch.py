"""Extract the ONNX Runtime libraries from a pinned wheel: fetch.py REQUIREMENTS FOLDER.

pip fetches the wheel and checks its hash; no code of the wheel runs. `libonnxruntime.so` in FOLDER is
written last, by rename, so that no incomplete file has this name after an interruption.
"""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile


def main(requirements: str, folder: str) -> None:
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    machine = platform.machine()
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", "3.12", "--implementation", "cp"]
        for glibc in ("2_28", "2_27", "2_17"):
            command += ["--platform", f"manylinux_{glibc}_{machine}"]
        command += ["--require-hashes", "--requirement", requirements, "--dest", scratch]
        if subprocess.run(command).returncode != 0:
            sys.exit("pip could not fetch onnxruntime: check the network, or set ORT_DYLIB_PATH to a libonnxruntime.so (1.24 or newer)")
        (wheel,) = pathlib.Path(scratch).glob("*.whl")
        main_library = None
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = pathlib.PurePosixPath(entry.filename).name
                if entry.filename.startswith("onnxruntime/capi/libonnxruntime"):
                    if name.startswith("libonnxruntime.so"):
                        main_library, name = name, "libonnxruntime.so"
                    with archive.open(entry) as source, open(pathlib.Path(scratch, name), "wb") as out:
                        shutil.copyfileobj(source, out)
        if main_library is None:
            sys.exit(f"{wheel.name} contains no libonnxruntime.so")
        libraries = [path for path in pathlib.Path(scratch).iterdir() if path.suffix == ".so"]
        for path in sorted(libraries, key=lambda path: path.name == "libonnxruntime.so"):
            os.replace(path, target / path.name)
        print(f"{main_library} of {wheel.name} is in {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
