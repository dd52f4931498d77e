import gzip
from pathlib import Path

import pytest

from callbacks.word_files import Analogy, WordPair, read_analogies, read_word_pairs


def write(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.txt.gz"])
def test_word_pairs(tmp_path: Path, name: str) -> None:
    text = "\ufeff# a comment\nWord 1\tWord 2\tHuman (mean)\n\ntiger\tcat\t7.35\r\nice cream\t冰\t-1e-1\n"
    pairs = [WordPair("tiger", "cat", 7.35), WordPair("ice cream", "冰", -0.1)]
    assert read_word_pairs(write(tmp_path / name, text)) == pairs


@pytest.mark.parametrize(
    "line", ["tiger cat 7.35", "tiger\tcat", "tiger\tcat\tvery", "tiger\tcat\tnan", "tiger\t\t1", "a\tb\t1\t2"]
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "pairs.tsv", f"# pairs\nold\tnew\t1.58\n{line}\n")
    with pytest.raises(ValueError, match=r"pairs\.tsv, line 3: expected word<TAB>word<TAB>score, got") as error:
        read_word_pairs(path)
    assert repr(line) in str(error.value)


def test_a_first_line_without_tabs_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1: expected"):
        read_word_pairs(write(tmp_path / "pairs.tsv", "old new 1.58\n"))


@pytest.mark.parametrize("read", [read_word_pairs, read_analogies])
def test_an_empty_file_is_named(tmp_path: Path, read: type) -> None:
    with pytest.raises(ValueError, match=r"pairs\.tsv holds no (word pairs|analogies)"):
        read(write(tmp_path / "pairs.tsv", "\n"))


def test_analogies(tmp_path: Path) -> None:
    path = write(tmp_path / "questions.txt", ": family\nboy girl king queen\n: 首都\n挪威 奥斯陆  法国 巴黎\n")
    questions = [Analogy("family", "boy", "girl", "king", "queen"), Analogy("首都", "挪威", "奥斯陆", "法国", "巴黎")]
    assert read_analogies(path) == questions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boy girl king queen\n", "line 1: expected a line ': group' before the first question"),
        (": family\nboy girl king\n", "line 2: expected four words, got 'boy girl king'"),
    ],
)
def test_a_broken_question_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_analogies(write(tmp_path / "questions.txt", text))


def test_the_nearest_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "wordsim353.tsv", "")
    with pytest.raises(FileNotFoundError, match=r"no file .*wordsim353\.txt; did you mean 'wordsim353\.tsv'\?"):
        read_word_pairs(tmp_path / "wordsim353.txt")


def test_bad_encoding_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.tsv", b"a\tb\t1\n" + "\u4f60\t\u597d\t2\n".encode("gb18030"))
    with pytest.raises(ValueError, match=r"pairs\.tsv, line 2: not UTF-8"):
        read_word_pairs(path)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.tsv.gz", "".join(f"a{n}\tb\t{n}\n" for n in range(5000)))
    content = path.read_bytes()
    for broken in (b"no gzip", content[: len(content) // 2], content[:200] + b"\xff" * 200 + content[400:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"pairs\.tsv\.gz(, line| is damaged after line) \d+"):
            read_word_pairs(path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "number", "groups"),
    [
        ("cwe_240.txt.gz", 240, 0),
        ("wordsim353.tsv.gz", 353, 0),
        ("cwe_analogy.txt.gz", 953, 3),
        ("questions-words.txt.gz", 19544, 14),
    ],
)
def test_real_files(shared_data: Path, name: str, number: int, groups: int) -> None:
    path = shared_data / "wordsim" / name
    if groups:
        questions = read_analogies(path)
        assert (len(questions), len({question.group for question in questions})) == (number, groups)
    else:
        assert len(read_word_pairs(path)) == number
