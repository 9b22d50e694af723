import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.api.http.ranges import ByteRange, RangeResponse, parse_range, select

TAG = '"abc"'
WHOLE = RangeResponse(200, (ByteRange(0, 100),))


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=90-", [(90, 100)]),
        ("bytes=90-1000", [(90, 100)]),
        ("bytes=-5", [(95, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("bytes=0-0,99-99", [(0, 1), (99, 100)]),
        ("bytes=50-59,0-9", [(50, 60), (0, 10)]),
        ("bytes=0-50,40-60", [(0, 61)]),
        ("bytes=0-9,200-300", [(0, 10)]),
        ("bytes= 0-1 , 5-6", [(0, 2), (5, 7)]),
        ("BYTES=0-1", [(0, 2)]),
        ("bytes=0-" + "9" * 5000, [(0, 100)]),
        ("bytes=-" + "9" * 5000, [(0, 100)]),
        ("bytes=" + "0" * 5000 + "5-6", [(5, 7)]),
        ("bytes=,0-1,,", [(0, 2)]),
    ],
)
def test_satisfiable_ranges(header: str, spans: list[tuple[int, int]]) -> None:
    assert parse_range(header, 100) == tuple(ByteRange(*span) for span in spans)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=200-300", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_ranges_outside_the_content_cannot_be_satisfied(header: str) -> None:
    assert parse_range(header, 100) == ()


def test_an_empty_content_has_no_satisfiable_position() -> None:
    assert parse_range("bytes=0-", 0) == ()
    assert parse_range("bytes=-0", 0) == ()


def test_a_suffix_of_an_empty_content_is_the_whole() -> None:
    assert parse_range("bytes=-5", 0) is None


@pytest.mark.parametrize(
    "header",
    [
        "lines=0-9",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=9-0",
        "bytes=0-9;1-2",
        "bytes=+1-2",
        "bytes=1 -2",
        "bytes=\u0661-2",
        "bytes=" + "0-0," * 65,
    ],
)
def test_unknown_units_and_malformed_headers_are_ignored(header: str) -> None:
    assert parse_range(header, 100) is None
    assert select("GET", {"range": header}, size_bytes=100, etag=TAG) == WHOLE


def test_a_range_gets_206_and_an_unsatisfiable_one_416() -> None:
    assert select("GET", {"range": "bytes=5-9"}, size_bytes=100, etag=TAG) == RangeResponse(
        206, (ByteRange(5, 10),)
    )
    assert select("GET", {"range": "bytes=100-"}, size_bytes=100, etag=TAG) == RangeResponse(416)


def test_a_range_of_head_is_ignored() -> None:
    assert select("HEAD", {"range": "bytes=5-9"}, size_bytes=100, etag=TAG) == WHOLE


@pytest.mark.parametrize(
    ("tag", "status"), [(TAG, 206), ('"other"', 200), ('W/"abc"', 200), ("Sun, 22 Nov", 200)]
)
def test_if_range_returns_the_part_only_of_the_same_content(tag: str, status: int) -> None:
    headers = {"range": "bytes=0-1", "if-range": tag}
    assert select("GET", headers, size_bytes=100, etag=TAG).status == status


@pytest.mark.parametrize("tags", [TAG, 'W/"abc"', '"x", "abc"', "*"])
def test_if_none_match_gives_304(tags: str) -> None:
    headers = {"if-none-match": tags, "range": "bytes=0-1"}
    assert select("GET", headers, size_bytes=100, etag=TAG) == RangeResponse(304)


@pytest.mark.parametrize(("tags", "status"), [(TAG, 200), ("*", 200), ('"x"', 412), ('W/"abc"', 412)])
def test_if_match_gives_412_to_another_content(tags: str, status: int) -> None:
    assert select("GET", {"if-match": tags}, size_bytes=100, etag=TAG).status == status


DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
@pytest.mark.parametrize("date", [DATE, "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_conditions_on_dates_are_ignored(name: str, date: str) -> None:
    assert select("GET", {name: date}, size_bytes=100, etag=TAG) == WHOLE


def test_if_match_comes_before_if_none_match_and_both_before_range() -> None:
    both = {"if-match": '"x"', "if-none-match": TAG, "range": "bytes=100-"}
    assert select("GET", both, size_bytes=100, etag=TAG) == RangeResponse(412)
    assert select("GET", {**both, "if-match": TAG}, size_bytes=100, etag=TAG) == RangeResponse(304)
    assert select(
        "GET", {**both, "if-match": TAG, "if-none-match": '"y"'}, size_bytes=100, etag=TAG
    ) == RangeResponse(416)


def test_if_range_without_range_returns_the_whole() -> None:
    assert select("GET", {"if-range": TAG}, size_bytes=100, etag=TAG) == WHOLE
    assert select("GET", {"if-range": '"other"', "range": "bytes=100-"}, size_bytes=100, etag=TAG) == WHOLE


@given(st.text(max_size=30), st.integers(0, 50))
def test_ranges_always_lie_within_the_content_and_never_overlap(specs: str, size: int) -> None:
    spans = parse_range("bytes=" + specs, size) or ()
    covered = [position for span in spans for position in range(span.start, span.stop)]
    assert all(0 <= position < size for position in covered)
    assert len(covered) == len(set(covered))
    assert all(span.start < span.stop for span in spans)
