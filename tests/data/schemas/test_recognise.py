"""Recognition of schemas: own tables in several languages, published schemas, doubts, and the address texts made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from m3gal_cli.data.schemas import Schema, UnknownSchema
from m3gal_cli.errors import InputError
from tests.helpers.schemas import ids_of, pois_of, schema_of, table_of, texts_of

POINT: dict[str, Any] = {"lat": [60.17, 60.18], "lng": [24.94, 24.95]}


OWN = [
    (
        {"name": ["Foo", "Bär, Inc."], "street": ["Annankatu", "Main Street"], "house_number": [16, 2], **POINT}
        | {"City": ["Helsinki", "London"], "District": ["Kluuvi", None], "type": ["pizza_restaurant", "amenity=pub"]},
        ["Foo, pizza restaurant, Annankatu 16, Kluuvi Helsinki", "Bär Inc., pub, 2 Main Street, London"],
    ),
    (
        {
            "店名": ["大超市", "小店"],
            "类别": ["购物;超市;便利店", None],
            "街道": ["文三路", "学院路"],
            "门牌号": ["12", "3号"],
        }
        | {
            "城市": ["杭州市", "杭州市"],
            "区县": ["西湖区", None],
            "经度": ["120.1", "120.2"],
            "纬度": ["30.2", "30.3"],
        },
        ["大超市,购物,超市,便利店,文三路12号,杭州市西湖区", "小店,学院路3号,杭州市"],
    ),
    (
        {"title": ["Bäckerei", "Apotheke"], "Straße": ["Hauptstraße", "Am Markt"], "Hausnummer": ["1a", None]}
        | {"Stadt": ["Köln", "Bonn"], "Breitengrad": [50.9, 50.7], "Längengrad": [6.9, 7.1]},
        ["Bäckerei, Hauptstraße 1a, Köln", "Apotheke, Am Markt, Bonn"],
    ),
    (
        {"name": ["A", "B"], "name_en": ["Cathedral", "B"], "name:sv": ["Domkyrkan", None], **POINT},
        ["A Cathedral Domkyrkan", "B"],
    ),
    (
        {"name": ["Kamppi", "S-market Ooppera"], "brand": ["S-market", "S-market"], **POINT},
        ["Kamppi S-market", "S-market Ooppera"],
    ),
    (
        {"name": ["A", "B"], "address": ["Katu 1, 00100 Helsinki", "Tie 2"], "city": ["Helsinki", "Espoo"], **POINT},
        ["A, Katu 1, Helsinki", "B, Tie 2, Espoo"],
    ),
    (
        {"name": ["A1", "B2"], "address": ["Katu 1, 00100 Helsinki", None], **POINT},
        ["A1, Katu 1, Helsinki", "B2"],
    ),
    ({"name": ["Foo", "Bar"], "address": ["Foo, Katu 1", " the Bar,Tie "], **POINT}, ["Foo, Katu 1", " the Bar,Tie "]),
    (
        {"name": ["Foo", "Bar"], "amenity": ["cafe", None], "shop": [None, "books"], "addr:street": ["Katu", None]}
        | {"addr:housenumber": ["3", None], **POINT},
        ["Foo, cafe, Katu 3", "Bar, books"],
    ),
]


@pytest.mark.parametrize(("columns", "texts"), OWN)
def test_own_tables_give_name_kind_street_and_number_district(columns: dict[str, Any], texts: list[str]) -> None:
    assert texts_of(columns) == texts


def test_nested_columns_are_used_where_no_column_has_the_name() -> None:
    rows = [
        {"shop": {"name": "Foo", "brand": {"name": "X"}}, "location": {"lat": 60.1, "lon": 24.9, "city": "Espoo"}},
        {"shop": {"name": "Bar", "brand": None}, "location": {"lat": 60.2, "lon": 24.8, "city": None}},
    ]
    schema = schema_of(pa.Table.from_pylist(rows))
    assert dict(schema.describe()) == {
        "name": "shop.name",
        "city": "location.city",
        "lng": "location.lon",
        "lat": "location.lat",
    }
    assert schema.apply(pa.Table.from_pylist(rows)).address.to_pylist() == ["Foo, Espoo", "Bar"]


@pytest.mark.parametrize(
    "geometry",
    [
        [shapely.Point(24.9, 60.1).wkb, shapely.box(0, 0, 2, 2).wkb, None],
        [shapely.Point(24.9, 60.1).wkb_hex, shapely.box(0, 0, 2, 2).wkb_hex, None],
        ["SRID=4326;POINT (24.9 60.1)", "POLYGON ((0 0, 2 0, 2 2, 0 2, 0 0))", "POINT EMPTY"],
        ['{"type": "Point", "coordinates": [24.9, 60.1]}', shapely.to_geojson(shapely.box(0, 0, 2, 2)), "no geometry"],
        [{"x": 24.9, "y": 60.1}, {"x": 1.0, "y": 1.0}, None],
    ],
    ids=["wkb", "hexadecimal wkb", "wkt", "geojson", "geoarrow"],
)
def test_geometries_give_coordinates(geometry: list[Any]) -> None:
    pois = pois_of({"name": ["a", "b", "c"], "the_geom": geometry})
    np.testing.assert_allclose(pois.lng[:1], 24.9)
    np.testing.assert_allclose(pois.lat[:1], 60.1)
    assert shapely.box(0, 0, 2, 2).contains(shapely.Point(pois.lng[1], pois.lat[1]))
    assert np.isnan(pois.lng[2])


def test_two_numbers_in_a_text_are_coordinates_if_their_order_is_clear() -> None:
    for name, values in {"latlng": ["60.1, 24.9", "x"], "坐标": ["(30.2 120.1)", "30;20"]}.items():
        pois = pois_of({"name": ["a", "b"], name: values})
        assert (pois.lng[0], pois.lat[0]) == ((24.9, 60.1) if name == "latlng" else (120.1, 30.2))
    with pytest.raises(InputError, match="the order of the numbers in location is not clear") as caught:
        schema_of({"name": ["a"], "location": ["60.17,24.94"]})
    assert caught.value.hint == "Decide: --columns 'lat_lng=location' or --columns 'lng_lat=location'"
    assert pois_of({"name": ["a"], "location": ["60.17,24.94"]}, "lat_lng=location").lng.tolist() == [24.94]


# --- published schemas -----------------------------------------------------------------------------------------------


def test_an_overture_table_that_duckdb_wrote_is_read(tmp_path: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "o.parquet"
    duckdb.sql(
        f"""COPY (SELECT * FROM (VALUES
          ('08f', {{'primary': 'Ateneum', 'common': MAP {{'en': 'National Gallery', 'sv': 'Ateneum'}}}},
           {{'primary': 'art_museum', 'alternate': ['museum']}}, {{'primary': 'art_museum'}}, 0.9,
           [{{'freeform': 'Kaivokatu 2', 'locality': 'Helsinki', 'region': NULL, 'country': 'FI'}}],
           {{'names': {{'primary': NULL}}}}, 'open', '\\x01\\x01\\x00\\x00\\x00'::BLOB),
          ('08e', {{'primary': 'Gone', 'common': NULL}}, NULL, NULL, 0.0, NULL, NULL, 'permanently_closed', NULL),
          ('08d', {{'primary': 'Pizza, Pasta', 'common': NULL}}, {{'primary': 'pizza_restaurant', 'alternate': NULL}},
           NULL, 0.5, [{{'freeform': 'Tie 1, 2nd floor', 'locality': 'Espoo', 'region': NULL, 'country': 'FI'}}],
           {{'names': {{'primary': 'Kotipizza'}}}}, NULL, NULL)
        ) t(id, names, categories, taxonomy, confidence, addresses, brand, operating_status, geometry))
        TO '{path}' (FORMAT parquet)"""
    )
    table = pa.parquet.read_table(path)
    points = [shapely.Point(24.94, 60.17).wkb, None, shapely.Point(24.7, 60.2).wkb]
    table = table.set_column(table.schema.get_field_index("geometry"), "geometry", pa.array(points))
    schema = schema_of(table)
    pois = schema.apply(table)
    assert schema.name == "overture"
    assert pois.address.to_pylist() == [
        "Ateneum National Gallery, art museum, Kaivokatu 2, Helsinki",
        "Gone",
        "Pizza Pasta Kotipizza, pizza restaurant, Tie 1 2nd floor, Espoo",
    ]
    assert pois.closed.tolist() == [False, True, False]
    assert pois.name is not None
    assert pois.name.to_pylist() == ["Ateneum", "Gone", "Pizza, Pasta"]
    assert pois.ids is not None
    assert pois.ids.to_pylist() == ["08f", "08e", "08d"]
    np.testing.assert_allclose([pois.lng[0], pois.lat[2]], [24.94, 60.2])


def foursquare() -> dict[str, Any]:
    return {
        "fsq_place_id": ["4b1", "4b2"],
        "name": ["Putte's", "Old Place"],
        "latitude": [60.16, 60.17],
        "longitude": [24.93, 24.94],
        "address": ["Kalevankatu 6", None],
        "locality": ["Helsinki", "Helsinki"],
        "date_closed": [None, "2023-05-01"],
        "fsq_category_labels": [["Dining and Drinking > Restaurant > Pizzeria", "Bar"], None],
    }


def test_the_address_of_foursquare_is_the_street_and_closed_places_are_marked() -> None:
    pois = pois_of(foursquare())
    assert pois.address.to_pylist() == ["Putte's, Restaurant, Pizzeria, Kalevankatu 6, Helsinki", "Old Place, Helsinki"]
    assert pois.closed.tolist() == [False, True]
    assert pois_of(foursquare(), "closed=").closed.tolist() == [False, False]


def test_geonames_codes_become_words() -> None:
    columns = {
        "geonameid": ["658225", "2"],
        "name": ["Helsinki", "Hotelli"],
        "alternatenames": ["Helsingfors,Helsinki,Khel'sinki,Gelsingfors", ""],
        "latitude": ["60.16952", "60.2"],
        "longitude": ["24.93545", "24.9"],
        "feature class": ["P", "S"],
        "feature code": ["PPLC", "HTL"],
        "country code": ["FI", "FI"],
    }
    assert schema_of(columns).name == "geonames"
    assert texts_of(columns) == ["Helsinki Helsingfors Khel'sinki, capital", "Hotelli, hotel"]


def test_nominatim_answers_use_the_parts_of_the_address_or_the_whole_text() -> None:
    row = {"place_id": 1, "osm_type": "node", "osm_id": 107775, "lat": "60.17", "lon": "24.94", "class": "tourism"}
    row |= {"type": "hotel", "display_name": "Hotel X, 12, Katu, Helsinki, Suomi", "name": "Hotel X"}
    parts = {"tourism": "Hotel X", "road": "Katu", "house_number": "12", "suburb": "Kluuvi", "city": "Helsinki"}
    whole, split = pa.Table.from_pylist([row]), pa.Table.from_pylist([row | {"address": parts}])
    assert texts_of(whole) == ["Hotel X, 12, Katu, Helsinki, Suomi"]
    assert texts_of(split) == ["Hotel X, hotel, Katu 12, Kluuvi Helsinki"]
    nameless = row | {"name": None}
    mixed = [nameless | {"address": parts}, nameless | {"address": {"city": "Helsinki"}}]
    assert texts_of(pa.Table.from_pylist(mixed)) == ["Hotel X, hotel, Katu 12, Kluuvi Helsinki", row["display_name"]]
    assert ids_of(split) == ["node107775"]


def test_a_photon_dump_and_photon_answers_are_read() -> None:
    dump = {"place_id": 3, "object_type": "N", "object_id": 30, "osm_key": "amenity", "osm_value": "cafe"}
    dump |= {"name": {"name": "Kahvila", "name:en": "Coffee House", "old_name": "Kuppila"}, "housenumber": "12"}
    dump |= {"address": {"street": "Katu", "city": "Helsinki"}, "centroid": [24.94, 60.17]}
    pois = pois_of([dump])
    assert pois.address.to_pylist() == ["Kahvila Coffee House, cafe, Katu 12, Helsinki"]
    assert (pois.lng.tolist(), pois.lat.tolist()) == ([24.94], [60.17])
    answer = {"osm_type": "N", "osm_id": 5, "osm_key": "shop", "osm_value": "books", "name": "Kirja", "street": "Tie"}
    answer |= {"housenumber": "1", "city": "Espoo", "geometry": '{"type": "Point", "coordinates": [24.7, 60.2]}'}
    schema = schema_of([answer])
    assert schema.name == "photon"
    assert schema.apply(pa.Table.from_pylist([answer])).address.to_pylist() == ["Kirja, books, Tie 1, Espoo"]


# --- doubts ----------------------------------------------------------------------------------------------------------


def doubt(columns: dict[str, Any], given: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        schema_of(columns, given)
    return caught.value


def test_an_address_that_contains_some_of_the_names_is_refused_with_both_readings() -> None:
    columns = {
        "name": ["Foo", "Bar", "Baz"],
        "address": ["Foo, Katu", "Tie 2", "Polku 3"],
        "lat": [1, 2, 3],
        "lng": [1, 2, 3],
    }
    error = doubt(columns)
    assert error.what.startswith("33% of the first addresses contain the name")
    assert error.hint == "Decide: --columns 'address=address' or --columns 'street=address'"
    assert texts_of(columns, "address=address") == ["Foo, Katu", "Bar, Tie 2", "Baz, Polku 3"]
    assert texts_of(columns, "street=address") == ["Foo, Foo, Katu", "Bar, Tie 2", "Baz, Polku 3"]


def test_two_columns_for_one_role_are_refused_if_their_values_differ() -> None:
    error = doubt({"name": ["Foo"], "title": ["Director"], "lat": [1.0], "lng": [2.0]}, "id=")
    assert error.what == "2 columns can be the name: name=name ('Foo'), or name=title ('Director')"
    assert error.hint == "Decide: --columns 'id=, name=name' or --columns 'id=, name=title'"
    assert doubt({"name": ["a"], "lat": [1.0], "latitude": [2.0], "lng": [2.0]}).what.startswith(
        "2 columns can be the lat"
    )
    assert dict(schema_of({"name": ["Foo"], "title": ["Foo"], **{k: v[:1] for k, v in POINT.items()}}).describe()) == {
        "name": "name",
        "lng": "lng",
        "lat": "lat",
    }


def test_the_more_specific_column_wins_without_a_question() -> None:
    columns = {
        "name": ["Foo", "Bar"],
        "brand": ["X", "Y"],
        **POINT,
        "x": [385_000.0, 386_000.0],
        "y": [6_672_000.0, 1.0],
    }
    assert dict(schema_of(columns).describe()) == {"name": "name", "brand": "brand", "lng": "lng", "lat": "lat"}
    projected = {"name": ["Foo"], "x": [385_000.0], "y": [6_672_000.0], "geometry": ["POINT (24.9 60.1)"]}
    assert pois_of(projected).lng.tolist() == [24.9]


def test_of_several_ids_the_one_without_repetitions_is_taken() -> None:
    columns = {"name": ["Foo", "Bar"], "store_id": ["7", "7"], "place_id": ["a", "b"], **POINT}
    assert schema_of(columns).sources["id"] == ("place_id",)
    error = doubt(columns | {"store_id": ["7", "8"]})
    assert error.hint == "Decide: --columns 'id=store_id' or --columns 'id=place_id'"


def test_a_table_without_text_or_coordinates_names_its_columns() -> None:
    with pytest.raises(UnknownSchema, match=r"no column name or address, lng \(the columns are: lat, phone\)"):
        schema_of({"lat": [1.0], "phone": ["x"]})


# --- the option ------------------------------------------------------------------------------------------------------

SHOPS = {"title": ["Foo", "Bar"], "street": ["Katu", "Tie"], "no": [1, 2], "city": ["Helsinki, FI", None]}
SHOPS |= {"y": [60.1, 60.2], "x": [24.9, 24.8], "shop_no": ["007", "8"]}


def test_given_columns_replace_the_recognised_ones() -> None:
    given = "name=title, address={street} {no}, {city}, lat=y, lng=x, id=shop_no"
    pois = pois_of(SHOPS, given)
    assert pois.address.to_pylist() == ["Foo, Katu 1, Helsinki FI", "Bar, Tie 2"], "name first, no empty part"
    assert ids_of(SHOPS, given) == ["007", "8"]
    assert texts_of(SHOPS, "address={street} / {title}") == ["Katu / Foo", "Tie / Bar"], "the text contains the name"
    assert texts_of(SHOPS, "category={no}, district={city}") == ["Foo, 1, Katu 1, Helsinki FI", "Bar, 2, Tie 2"]


def test_an_empty_source_switches_a_role_off() -> None:
    assert pois_of(SHOPS, "id=").ids is None
    assert texts_of(SHOPS, "number=, city=") == ["Foo, Katu", "Bar, Tie"]


@pytest.mark.parametrize(
    ("given", "what", "hint"),
    [
        ("name=titel", "name=titel: the table has no column 'titel'", "title, street, no, city, y, x, shop_no"),
        ("name={title} {nr}", "the table has no column 'nr'", "title, street"),
        ("titel=title", "unknown role 'titel'", "Roles: id, name"),
        ("title", "'title' is not role=column", "role=column"),
        ("name=title, name=city", "the role name is given twice", "role=column"),
        ("name={title", "a brace of '{title' is not closed", "role=column"),
        ("address={city}, street=street", "address excludes street and number", "address={street}"),
    ],
)
def test_a_wrong_option_is_refused(given: str, what: str, hint: str) -> None:
    error = doubt(SHOPS, given)
    assert what in error.what
    assert hint in str(error.hint)


def test_a_schema_is_restored_from_json() -> None:
    schema = schema_of(SHOPS, "name=title, address={street} {no}")
    again = Schema.from_json(schema.to_json())
    assert again.apply(table_of(SHOPS)).address.equals(schema.apply(table_of(SHOPS)).address)
    assert again.missing_columns(table_of(SHOPS).schema) == []
    fewer = pa.schema([("title", pa.string()), ("x", pa.float64()), ("y", pa.float64())])
    assert set(again.missing_columns(fewer)) == {"{street} {no}", "shop_no"}


def test_texts_depend_on_their_own_row_only() -> None:
    columns, _ = OWN[0]
    frame = pd.DataFrame(columns)
    schema = schema_of(pa.Table.from_pandas(frame))
    for i in range(len(frame)):
        alone = pa.Table.from_pandas(frame.iloc[[i]], preserve_index=False)
        assert schema.apply(alone).address.to_pylist() == texts_of(columns)[i : i + 1]
