from benchmarks import performance_doc


def test_the_page_matches_the_results() -> None:
    assert performance_doc.TARGET.read_text(encoding="utf-8") == performance_doc.document()


def test_a_table_has_a_cell_for_every_column() -> None:
    lines = performance_doc.table(("a", "b"), [(1, 2.345), ("x", None), (123.4, 0.9994)]).split("\n")
    assert lines == ["| a | b |", "| --- | --- |", "| 1 | 2.35 |", "| x |  |", "| 123 | 0.999 |"]
