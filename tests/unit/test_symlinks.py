"""The way to a file: which names, replaced, change what is read, and which directories show that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.watch.symlinks import DirEntry, WatchPath, resolve_path, union


def under(folder: Path, found: WatchPath) -> tuple[set[str], set[str]]:
    """Return the entries below ``folder`` and the directories watched, relative to it."""
    entries = {f"{spot.directory}/{spot.name}" for spot in found.entries}
    below = {name[len(str(folder)) + 1 :] for name in entries if name.startswith(f"{folder}/")}
    return below, {str(Path(name).relative_to(folder)) for name in found.directories}


def plain(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config/mmp.yaml").touch()


def linked(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "real").mkdir()
    (folder / "real/main.yaml").touch()
    (folder / "config/mmp.yaml").symlink_to("../real/main.yaml")


def config_map(folder: Path) -> None:
    (folder / "config/..1").mkdir(parents=True)
    (folder / "config/..1/mmp.yaml").touch()
    (folder / "config/..data").symlink_to("..1")
    (folder / "config/mmp.yaml").symlink_to("..data/mmp.yaml")


def release(folder: Path) -> None:
    (folder / "r17").mkdir()
    (folder / "r17/mmp.yaml").touch()
    (folder / "config").symlink_to(folder / "r17")


def missing_file(folder: Path) -> None:
    (folder / "config").mkdir()


def missing_folder(folder: Path) -> None:
    pass


def dangling(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config/mmp.yaml").symlink_to("..data/mmp.yaml")


@pytest.mark.parametrize(
    ("made", "entries", "watched"),
    [
        (plain, {"config", "config/mmp.yaml"}, {"config"}),
        (linked, {"config", "config/mmp.yaml", "real", "real/main.yaml"}, {"config", "real"}),
        (
            config_map,
            {"config", "config/mmp.yaml", "config/..data", "config/..1", "config/..1/mmp.yaml"},
            {"config", "config/..1"},
        ),
        (release, {"config", "r17", "r17/mmp.yaml"}, {".", "r17"}),
        (missing_file, {"config", "config/mmp.yaml"}, {"config"}),
        (missing_folder, {"config"}, {"."}),
        (dangling, {"config", "config/mmp.yaml", "config/..data"}, {"config"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_link_the_file_and_what_is_missing_is_watched(
    made: Callable[[Path], None], entries: set[str], watched: set[str], tmp_path: Path
) -> None:
    made(tmp_path)
    assert under(tmp_path, resolve_path(f"{tmp_path}/config/mmp.yaml")) == (entries, watched)
    assert under(tmp_path, resolve_path(f"{tmp_path}/./config//mmp.yaml")) == (entries, watched)


def test_a_relative_path_is_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path)
    monkeypatch.chdir(tmp_path / "config")
    assert resolve_path("mmp.yaml") == WatchPath(
        frozenset({DirEntry(str(tmp_path / "config"), "mmp.yaml")}), frozenset({str(tmp_path / "config")})
    )
    assert resolve_path("../config/mmp.yaml").directories == resolve_path("mmp.yaml").directories


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert resolve_path(f"{tmp_path}/a").directories == {str(tmp_path)}


def test_a_path_that_cannot_be_one_leads_nowhere() -> None:
    assert resolve_path("/\0").directories == {"/"}


def test_watch_paths_are_combined(tmp_path: Path) -> None:
    one, other = resolve_path(f"{tmp_path}/a"), resolve_path(f"{tmp_path}/b")
    both = WatchPath(one.entries | other.entries, one.directories | other.directories)
    assert union([one, other]) == both
    assert union([]) == WatchPath()
