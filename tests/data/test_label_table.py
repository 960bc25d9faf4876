"""labels.csv as spreadsheets, scripts and people write it."""

import pytest

from ssl_parts.data.sets.label_table import read_labels
from ssl_parts.errors import DataError

IMAGES = ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    "data",
    [
        b"0.jpg,a\n1.jpg,b\n2.jpg,a\n",
        "\ufeff0.jpg,a\n1.jpg,b\n2.jpg,a\n".encode(),
        "0.jpg,a\n1.jpg,b\n2.jpg,a\n".encode("utf-16"),
        "0.jpg,a\n1.jpg,b\n2.jpg,a\n".encode("utf-16-be"),
        b"0.jpg;a\r\n1.jpg;b\r\n2.jpg;a\r\n",
        b"0.jpg\ta\r1.jpg\tb\r2.jpg\ta",
        b" 0.jpg , a\n1.jpg,b \n\n2.jpg,  a\n",
        b"filename,label\n0.jpg,a\n1.jpg,b\n2.jpg,a\n",
        b"id;Class Name;Image\n7;a;0.jpg\n8;b;1.jpg\n9;a;2.jpg\n",
        b'"images/0.jpg","a"\n.\\1.JPG,b\n2,a\n',
        b"2.jpg,a\n0.jpg,a\n0.jpg,a\n1.jpg,b\n",
        b"C:/photos/0.jpg,a\nC:/photos/1.jpg,b\nx/2.jpg,a\n",
    ],
)
def test_is_read(tmp_path, data):
    (tmp_path / "labels.csv").write_bytes(data)
    assert read_labels(tmp_path / "labels.csv", IMAGES) == (["a", "b", "a"], [])


def test_letters_beyond_ascii(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes("0.jpg,Mésange\n1.jpg,b\n".encode("cp1252"))
    labels, remarks = read_labels(file, IMAGES[:2])
    assert labels == ["Mésange", "b"] and "cp1252" in remarks[0]
    composed, apart = (
        "M\u00e9sange",
        "Me\u0301sange",
    )  # the same letters to a reader: as files on a Mac
    file.write_text(f"{composed}.jpg,{apart}\n1.jpg,{composed}\n", encoding="utf-8")
    assert read_labels(file, [f"{apart}.jpg", "1.jpg"])[0] == [composed, composed]


def test_what_is_odd_is_said(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("0.jpg,Ant\n1.jpg,ant\n2.jpg,b\n9.jpg,q\n")
    labels, remarks = read_labels(file, IMAGES)
    assert labels == ["Ant", "ant", "b"]
    assert (
        "1 row without an image: 9.jpg" in remarks[0]
        and "in capitals alone: Ant, ant" in remarks[1]
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"0.jpg,a\n0.jpg,b\n1.jpg,b\n2.jpg,a\n", ["0.jpg is 'a' in line 1 and 'b' in line 2"]),
        (b"0.jpg a\n1.jpg b\n", ["one field", "comma, semicolon or tab", "0.jpg a"]),
        (b"0.jpg,a\n1.jpg,b\n", ["no row for images/2.jpg"]),
        (b"", ["no row for images/0.jpg and 2 images more"]),
        (b"0.jpg,\n1.jpg,b\n2.jpg,c", ["label of images/0.jpg is empty"]),
        (b"0.jpg,a,x\n1.jpg,b,y\n2.jpg,c,z", ["3 fields", "header"]),
        (b"0.jpg,a\0\n", ["zero bytes"]),
        (b"\x81\x8d,a\n", ["save it as UTF-8"]),
        (b'0.jpg,"' + b"x" * 200_000, ["labels.csv"]),
    ],
)
def test_is_refused_in_one_sentence(tmp_path, data, words):
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "labels.csv", IMAGES)
    assert all(word in str(caught.value) for word in [*words, "labels.csv"]), str(caught.value)
    assert "\n" not in str(caught.value)
