"""Tables as people have them: columns in many languages, answers of map services, databases, postal addresses."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely

from m3gal_cli.data.schemas import UnknownSchema
from m3gal_cli.data.schemas.names import core_of, key_of
from tests.helpers.schemas import ids_of, pois_of, schema_of, texts_of

POINT: dict[str, Any] = {"lat": [60.17, 60.18, 60.19], "lng": [24.94, 24.95, 24.96]}
NAMES = ["Oodi", "Kamppi", "Fazer"]


@pytest.mark.parametrize(
    ("header", "cells", "text"),
    [
        ("Codice,Nome,Indirizzo,Civico,Comune,Longitudine,Latitudine", "7,Bar,Via Roma,3", "Bar, Via Roma 3, X"),
        ("Código,Nome,Endereço,Bairro,Cidade,Longitude,Latitude", "7,Bar,Rua A 3,Centro", "Bar, Rua A 3, Centro X"),
        ("Код,Название,Адрес,Категория,Город,Долгота,Широта", "7,Бар,Улица 3,кафе", "Бар, кафе, Улица 3, X"),
        ("店舗ID,店舗名,住所,カテゴリ,市区町村,経度,緯度", "7,Bar,Dori 3,cafe", "Bar, cafe, Dori 3, X"),
        ("id,상호명,도로명주소,업종,시군구,경도,위도", "7,Bar,Ro 3,cafe", "Bar, cafe, Ro 3"),
        ("Filialnr.,Filialname,Straße,Hausnr.,Ort,Geogr. Länge,Geogr. Breite", "7,Bar,Weg,3", "Bar, Weg 3, X"),
        ("Tunnus,Nimi,Katuosoite,PLZ,Kaupunki,Pituusaste,Leveysaste", "7,Bar,Katu 3,0", "Bar, Katu 3, X"),
        ("store_id,store_name,store_address,zip,store_city,store_lng,store_lat", "7,Bar,Katu 3,0", "Bar, Katu 3, X"),
        (
            "门店ID,门店名称,门店地址,经营品类,所属城市,高德经度,纬度（GCJ-02）",
            "7,Bar,Katu 3,cafe",
            "Bar, cafe, Katu 3, X",
        ),
    ],
)
def test_columns_in_other_languages_and_with_prefixes_are_recognised(header: str, cells: str, text: str) -> None:
    columns = dict(zip(header.split(","), ([cell] for cell in [*cells.split(","), "X", "24.9", "60.1"]), strict=True))
    pois = pois_of(columns)
    assert pois.address.to_pylist() == [text]
    assert ids_of(columns) == ["7"]
    assert (pois.lng.tolist(), pois.lat.tolist()) == ([24.9], [60.1])


def test_what_stands_before_and_behind_a_name_does_not_count() -> None:
    names = ["store_address", "门店地址", "lat_wgs84", "经度（GCJ-02）", "latitudeE7", "shop", "order_id"]
    assert [core_of(key_of(name)) for name in names] == [
        "address",
        "地址",
        "lat",
        "经度",
        "latitude",
        "shop",
        "orderid",
    ]


def test_a_row_number_is_no_house_number_but_the_id() -> None:
    counted = {"No": [1, 2, 3], "name": NAMES, "address": ["Katu 4", "Tie 1", "Polku"], **POINT}
    assert texts_of(counted) == ["Oodi, Katu 4", "Kamppi, Tie 1", "Fazer, Polku"]
    assert schema_of(counted).sources["id"] == ("No",)
    digits = counted | {"No": ["9" * 5000, "1", "2"], "address": ["Katu", "Tie", "Polku"]}
    assert texts_of(digits)[1:] == ["Kamppi, Tie 1", "Fazer, Polku 2"]
    houses = {"id": [5, 6, 7], "no": [4, 1, 9], "name": NAMES, "street": ["Katu", "Tie", "Polku"], **POINT}
    assert texts_of(houses) == ["Oodi, Katu 4", "Kamppi, Tie 1", "Fazer, Polku 9"]
    twice = {"name": NAMES, "street": ["Katu 4", "Tie 1", "Polku 9"], "house_number": ["4", "1", "9"], **POINT}
    assert texts_of(twice) == ["Oodi, Katu 4", "Kamppi, Tie 1", "Fazer, Polku 9"]


def test_codes_and_types_of_elements_are_no_kinds() -> None:
    for kinds in ({"type": [3, 4, 5]}, {"shop": ["100", "101", "102"]}, {"@type": ["node", "way", "node"]}):
        assert texts_of({"name": NAMES, **kinds, **POINT}) == NAMES
    export = {"name": NAMES, "@type": ["node"] * 3, "amenity": ["cafe", None, "pub"], **POINT}
    assert texts_of(export) == ["Oodi, cafe", "Kamppi", "Fazer, pub"]


def test_whole_numbers_that_became_floats_are_ids() -> None:
    assert ids_of({"id": [7.0, 8.0, None], "name": NAMES, **POINT}) == [7, 8, None]
    for kind in (pa.float64(), pa.float32()):
        values = pa.array([1e30, float("inf"), 7.0], kind)
        assert ids_of({"id": values, "name": NAMES, **POINT}) == [None, None, 7]
    assert "id" not in schema_of({"id": [7.5, 8.0, 9.0], "name": NAMES, **POINT}).sources


@pytest.mark.parametrize(
    ("address", "rest"),
    [
        ("Kaivokatu 1, 00100 Helsinki, Finland", "Kaivokatu 1, Helsinki"),
        ("Kaivokatu 1, 00100 Helsinki", "Kaivokatu 1, Helsinki"),
        ("12 Main Street, Springfield, IL 62704, USA", "12 Main Street, Springfield"),
        ("12 High Street, Camden, London NW1 4AB, UK", "12 High Street Camden, London"),
        ("1 Yonge St, Toronto, ON M5V 2T6, Canada", "1 Yonge St, Toronto"),
        ("Damrak 1, 1012 LG Amsterdam, Netherlands", "Damrak 1, Amsterdam"),
        ("Calle Mayor 4, 28013 Madrid", "Calle Mayor 4, Madrid"),
        ("The Plaza, 1204 Main Street", "The Plaza, 1204 Main Street"),
        ("Katu 1, Kluuvi", "Katu 1, Kluuvi"),
    ],
)
def test_postal_addresses_lose_postcode_and_country(address: str, rest: str) -> None:
    assert texts_of({"name": ["Oodi"], "address": [address], "lat": [60.1], "lng": [24.9]}) == [f"Oodi, {rest}"]


def test_a_known_city_ends_the_street_of_a_postal_address() -> None:
    columns = {"name": ["Oodi"], "address": ["Katu 1, 00100 Helsinki, Finland"], "city": ["Helsinki"]}
    assert texts_of(columns | {"lat": [60.1], "lng": [24.9]}) == ["Oodi, Katu 1, Helsinki"]


def test_a_chinese_street_loses_the_known_districts_before_it() -> None:
    columns = {"名称": ["便利店", "面馆"], "地址": ["浙江省杭州市西湖区文三路12号", "学院路3号"], "省": ["浙江省"] * 2}
    columns |= {"市": ["杭州市"] * 2, "区": ["西湖区"] * 2, "经纬度": ["120.1，30.2", "１２０．１,３０．２"]}
    pois = pois_of(columns)
    assert pois.address.to_pylist() == ["便利店,文三路12号,杭州市西湖区", "面馆,学院路3号,杭州市西湖区"]
    assert (pois.lng.tolist(), pois.lat.tolist()) == ([120.1, 120.1], [30.2, 30.2])


@pytest.mark.parametrize(
    ("lat", "lng"),
    [
        ("60°30'36\"N", "24°45'E"),
        ("60.51° N", "24,75° E"),
        ("N 60° 30.6′", "E 24° 45′ 0″"),
        ("60º30'36''", "24º45'"),
        ("６０．５１", "２４．７５"),
        ("60,51", "+24.75"),
    ],
)
def test_angles_and_full_width_digits_are_degrees(lat: str, lng: str) -> None:
    pois = pois_of({"name": ["Oodi"], "latitude": [lat], "longitude": [lng]})
    np.testing.assert_allclose([pois.lat[0], pois.lng[0]], [60.51, 24.75])


def test_angles_in_the_south_and_west_are_negative_and_wrong_ones_are_no_number() -> None:
    pois = pois_of({"name": NAMES, "lat": ["23°30'S", "-23°30'", "23°75'S"], "lng": ["46°W", "46°w", "46°"]})
    np.testing.assert_allclose(pois.lat, [-23.5, -23.5, np.nan])
    np.testing.assert_allclose(pois.lng, [-46, -46, 46])


POINTS = [shapely.Point(24.9, 60.1), shapely.Point(24.8, 60.2)]


@pytest.mark.parametrize(
    "values",
    [
        [f"POINT({p.x} {p.y})" for p in POINTS],
        ["0x" + p.wkb_hex for p in POINTS],
        ["0xE6100000" + p.wkb_hex for p in POINTS],
        ["00000000" + p.wkb_hex for p in POINTS],
        [shapely.to_wkb(p, byte_order=0, hex=True) for p in POINTS],
        [shapely.to_wkb(shapely.set_srid(p, 4326), hex=True, include_srid=True) for p in POINTS],
        [p.wkb for p in POINTS],
        [shapely.to_geojson(p) for p in POINTS],
    ],
    ids=["wkt", "0x", "mysql", "mysql without srid", "big endian", "postgis", "bytes", "geojson"],
)
def test_a_geometry_is_found_by_its_values(values: list[Any]) -> None:
    pois = pois_of({"name": ["a", "b"], "ST_AsText(location)": values})
    np.testing.assert_allclose(pois.lng, [24.9, 24.8])
    np.testing.assert_allclose(pois.lat, [60.1, 60.2])


def test_hashes_and_upper_case_names_are_no_geometries() -> None:
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in NAMES]
    for values in (hashes, ["POINT OF SALE", "POLYGON BAR", "MULTIKINO"]):
        with pytest.raises(UnknownSchema, match="no column lng, lat"):
            schema_of({"name": NAMES, "other": values})


def test_numbers_that_are_no_degrees_are_said() -> None:
    for columns, example in (
        ({"X": [385000], "Y": [6672000]}, "X has no degrees: '385000'"),
        ({"longitudeE7": [249381000], "latitudeE7": [601741000]}, "longitudeE7 has no degrees: '249381000'"),
    ):
        with pytest.raises(UnknownSchema, match=example) as caught:
            schema_of({"name": ["a"], **columns})
        assert caught.value.hint is not None
        assert "Convert projected coordinates" in caught.value.hint


def test_names_of_very_many_columns_are_cut_in_messages() -> None:
    with pytest.raises(UnknownSchema, match=r"c39 and 160 more\)"):
        schema_of({f"c{i}": ["x"] for i in range(200)})


# --- map services ----------------------------------------------------------------------------------------------------


AMAP = {"id": "B0F", "name": "面馆", "type": "餐饮服务;中餐厅;中餐厅", "typecode": "050100", "address": "文三路12号"}
AMAP |= {"location": "120.1,30.2", "pname": "浙江省", "cityname": "杭州市", "adname": "西湖区"}
BAIDU: dict[str, Any] = {"uid": "u1", "name": "面馆", "address": "文三路12号", "area": "西湖区", "city": "杭州市"}
BAIDU |= {"province": "浙江省", "location": {"lat": 30.2, "lng": 120.1}}
BAIDU |= {"detail_info": {"tag": "美食;中餐厅", "type": "cater", "navi_location": {"lat": 1.0, "lng": 2.0}}}
TENCENT = {"id": "1", "title": "面馆", "address": "浙江省杭州市西湖区文三路12号", "category": "美食:中餐厅", "type": 0}
TENCENT |= {"location": {"lat": 30.2, "lng": 120.1}}
TENCENT |= {"ad_info": {"adcode": 330106, "province": "浙江省", "city": "杭州市", "district": "西湖区"}}


@pytest.mark.parametrize(
    ("row", "service", "text"),
    [
        (AMAP, ("amap", "gcj02"), "面馆,餐饮服务,中餐厅,文三路12号,杭州市西湖区"),
        (AMAP | {"address": "[]"}, ("amap", "gcj02"), "面馆,餐饮服务,中餐厅,杭州市西湖区"),
        (BAIDU, ("baidu", "bd09"), "面馆,美食,中餐厅,文三路12号,杭州市西湖区"),
        (TENCENT, ("tencent", "gcj02"), "面馆,美食,中餐厅,文三路12号,杭州市西湖区"),
    ],
)
def test_rows_of_chinese_services_are_recognised_with_their_datum(
    row: dict[str, Any], service: tuple[str, str], text: str
) -> None:
    schema, pois = schema_of([row]), pois_of([row])
    assert (schema.name, schema.datum) == service
    assert (pois.address.to_pylist(), pois.lng.tolist(), pois.lat.tolist()) == ([text], [120.1], [30.2])


def test_names_of_columns_tell_a_shifted_datum() -> None:
    for lng, datum in (("lng", None), ("lng_gcj02", "gcj02"), ("百度经度", "bd09"), ("lng_wgs84", None)):
        assert schema_of({"name": ["a"], lng: [120.1], "lat": [30.2]}).datum == datum


def test_both_answers_of_google_places_are_read() -> None:
    new = {"id": "C1", "formattedAddress": "Katu 4, 00100 Helsinki, Finland", "primaryType": "cafe"}
    new |= {"location": {"latitude": 60.1, "longitude": 24.9}, "displayName": {"text": "Oodi", "languageCode": "fi"}}
    corner = {"lat": 1.0, "lng": 2.0}
    old = {"place_id": "C1", "name": "Oodi", "formatted_address": "Katu 4, 00100 Helsinki, Finland", "types": ["cafe"]}
    old |= {"geometry": {"location": {"lat": 60.1, "lng": 24.9}, "viewport": {"northeast": corner}}}
    for row in (new, old):
        pois = pois_of([row])
        assert pois.address.to_pylist() == ["Oodi, cafe, Katu 4, Helsinki"]
        assert (pois.lng.tolist(), pois.lat.tolist()) == ([24.9], [60.1])


def test_the_dump_that_photon_writes_itself_is_read() -> None:
    row = {"place_id": 3, "object_type": "N", "object_id": 30, "categories": ["osm.amenity.cafe"], "housenumber": "12"}
    row |= {"name": {"name": "Kahvila"}, "address": {"street": "Katu"}, "centroid": [24.94, 60.17]}
    nameless = row | {"name": None, "object_id": 31, "categories": ["osm.building.yes"]}
    pois = pois_of([row, nameless])
    assert pois.address.to_pylist() == ["Kahvila, cafe, Katu 12", "Katu 12"]
    assert ids_of([row, nameless]) == ["N30", "N31"]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ("['Dining > Cafe, Coffee, and Tea House > Coffee Shop', 'Bar']", "Cafe Coffee and Tea House, Coffee Shop"),
        ('["Dining and Drinking > Bar"]', "Bar"),
        ("[Dining and Drinking > Bar > Pub, Retail > Food]", "Bar, Pub"),
        ("[cafe, pub]", "cafe"),
        ("[]", None),
    ],
)  # fmt: skip
def test_a_list_of_kinds_that_was_written_as_text_gives_its_first(labels: str, kind: str | None) -> None:
    columns = {"fsq_place_id": ["4b"], "name": ["Oodi"], "latitude": ["60.1"], "longitude": ["24.9"]}
    assert texts_of(columns | {"fsq_category_labels": [labels]}) == ["Oodi" + (f", {kind}" if kind else "")]


def test_a_table_that_m3gal_wrote_is_not_recognised_as_its_source() -> None:
    columns = {
        "poi_id": ["4b"],
        "address": ["Oodi, cafe, Katu 4, Helsinki"],
        "name": ["Oodi"],
        "lng": [24.9],
        "lat": [60.1],
    }
    source = {"fsq_place_id": ["4b"], "latitude": ["1"], "longitude": ["2"], "address_source": ["Katu 4"]}
    for own in (
        source,
        {k: [v] for k, v in AMAP.items() if k not in columns},
        {"Breitengrad": [1.0], "street": ["x"]},
    ):
        schema = schema_of(columns | own)
        assert schema.name == "m3gal"
        pois = schema.apply(pa.table(columns | own))
        assert (pois.address.to_pylist(), pois.lng.tolist()) == (columns["address"], [24.9])
        assert [schema.own_name(column) for column in own] == list(own)
    street = columns | {"address": ["Katu 4"], "city": ["Helsinki"]}
    assert texts_of(street) == ["Oodi, Katu 4, Helsinki"], "a table of the user with these columns"
