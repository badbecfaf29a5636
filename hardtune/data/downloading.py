"""Finding a data set's files, and downloading them if there is a network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hardtune.data.image_folder import TEST_NAMES, class_folders
from hardtune.errors import InputError


def find_image_folder(folders: Iterable[Path], num_classes: int) -> Path | None:
    """The first of ``folders`` that holds ``train/`` and ``test/`` (or ``val/``) with that many class folders."""
    for folder in folders:
        train = folder / "train"
        tested = any((folder / name).is_dir() for name in TEST_NAMES)
        if train.is_dir() and tested and len(class_folders(train)) == num_classes:
            return folder
    return None


def download(
    name: str, files: Mapping[str, tuple[Sequence[str], str]], folder: Path, looked_for: str, how: str
) -> None:
    """Fetch ``files`` (name → mirrors' addresses, MD5) into ``folder``, all of them or none.

    Raises ``InputError`` where that is impossible: it says what was looked for, where, and how to get it by hand.
    """
    from torchvision.datasets.utils import download_url

    addresses = {mirrors[0] for mirrors, _ in files.values()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # To a temporary folder first: a partial download must not look like data later.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as aside:
            for file, (mirrors, md5) in files.items():
                for mirror in mirrors:
                    try:
                        download_url(mirror, aside, filename=file, md5=md5)
                        break
                    except (OSError, RuntimeError) as error:
                        failure = error
                else:
                    raise failure
            for file in files:
                (Path(aside) / file).replace(folder / file)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} is not on this machine: looked for {looked_for}, and downloading failed ({error}); {how}, "
            f"or download {', '.join(sorted(addresses))} by hand, and name the folder with --data-dir or HARDTUNE_DATA"
        ) from error
