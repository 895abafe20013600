CHANGES = {
    "a number": ("n", 0, 99.0),
    "null for a number": ("n", 0, None),
    "null for nan in text": ("word", 4, None),
    "null for an empty text": ("word", 5, None),
    "a flag": ("flag", 0, False),
    "a moment": ("at", 0, DAYS[0] + pd.Timedelta(microseconds=1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_changed_value_changes_the_logical_hash(frame: pd.DataFrame, change: str) -> None:
    column, row, value = CHANGES[change]
    changed = frame.copy()
    changed.loc[row, column] = value
    assert fingerprint(changed) != fingerprint(frame)


def test_a_repeated_row_changes_the_logical_hash(frame: pd.DataFrame) -> None:
    pair = pd.concat([frame, frame[:1], frame[:1]])
    assert len({fingerprint(frame), fingerprint(pair), fingerprint(pair[:-1])}) == 3


def test_the_schema_hash_knows_names_and_types_but_no_order() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert schema_hash(schema) == schema_hash(pa.schema(reversed(list(schema))))
    assert schema_hash(schema) != schema_hash(pa.schema([("a", pa.int32()), ("b", pa.string())]))
    assert schema_hash(schema) != schema_hash(pa.schema([("a", pa.int64()), ("c", pa.string())]))


def fingerprint(frame: pd.DataFrame) -> str:
    return logical_hash(pa.Table.from_pandas(frame, preserve_index=False))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text(max_size=3), st.floats()),
        min_size=1,
    ),
    st.data(),
)
def test_order_and_chunks_leave_the_logical_hash(
    rows: list[tuple[object, ...]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    schema = pa.schema([("n", pa.int64()), ("word", pa.string()), ("x", pa.float64())])
    table = pa.Table.from_pylist([dict(zip(schema.names, r, strict=True)) for r in rows], schema)
    moved = table.take(np.array(order)).select(["x", "word", "n"])
    chunked = pa.concat_tables([moved[:cut], moved[cut:]])
    assert logical_hash(chunked) == logical_hash(table)
