"""Following a file that is being written."""

from pathlib import Path

from star_jobs.training.logs import JsonLinesFollower


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    follower = JsonLinesFollower(path)
    assert follower.read() == []
    path.write_text('{"a": 1}\nnot json\n[2]\n{"a": ')
    assert follower.read() == [{"a": 1}]
    assert follower.read() == []
    with path.open("a") as file:
        file.write('3}\n{"a": 4}\n')
    assert follower.read() == [{"a": 3}, {"a": 4}]


def test_a_file_that_starts_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    follower = JsonLinesFollower(path)
    follower.read()
    path.write_text('{"a": 9}\n')
    assert follower.read() == [{"a": 9}]
