"""Names of columns by role, and the published schemas that are recognised by their columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from m3gal_cli.data.schemas.sources import has_path, is_list

_NO_LETTER = re.compile(r"[\W_]+")
_LANGUAGE = re.compile(r"^(?:name|nom|nombre)[ _:.-]([a-z]{2})(?:[_-][a-z]{2,4})?$", re.IGNORECASE)
_NOT_LANGUAGES = ("id", "no", "nr")
_WITHOUT_ROLES = ("brand", "owner", "operator", "chain", "parent", "bbox", "viewport", "sources", "extratags", "extra")
MAX_DEPTH = 3

# Column names by role; ``key_of`` tells which names are the same. The first group with a column decides. Columns of one
# group are equally good: if their values differ, the user must choose.
_NAMES: dict[str, tuple[str, ...]] = {
    "id": (
        "poiid",
        "id 编号",
        "placeid storeid shopid shopno storeno locationid uid uuid guid filialnr filialnummer butiksnr 门店编号 "
        "店铺编号",
        "code storecode codigo codice kod identifiant identificador identificativo kennung tunnus код",
        "osmid fid gid ogcfid objectid",
    ),
    "name": (
        "name title 名称 店名 标题 nom nombre nimi bezeichnung titel titre titulo nome naam namn navn nazwa nama "
        "denominazione название наименование 名前 店舗名 施設名 상호명 상호 이름 업체명 الاسم اسم",
        "displayname poiname placename shopname storename businessname locationname enseigne filialname 门店名称 "
        "店铺名称 商户名称",
        "shop store business 门店 商户",
        "brand brandname 品牌",
    ),
    "other_names": (
        "othernames alternatenames altname altnames alias aliases aka 别名 英文名 外文名",
        "localname intname namelocal shortname branch branchname 分店名",
    ),
    "address": (
        "address addr fulladdress formattedaddress streetaddress addressline1 address1 地址 详细地址 adresse "
        "direccion domicilio anschrift osoite addressline indirizzo endereco morada adres adresa adress "
        "gatuadress katuosoite kayntiosoite alamat адрес 住所 所在地 주소 도로명주소 العنوان عنوان",
    ),
    "category": (
        "category 类别 分类 kategorie categorie categoria kategoria kategori категория カテゴリ カテゴリー 업종 "
        "品类 经营品类 业态",
        "type 类型 typ tipo",
        "kind categoryname maincategory categories primarycategory subcategory primarytype types",
    ),
    "street": (
        "street streetname road 街道 道路 路名 strasse rue calle katu addrstreet strassenname straatnaam straat "
        "gata ulica logradouro улица",
    ),
    "number": (
        "housenumber streetnumber houseno streetno 门牌号 门牌 hausnummer hausnr numero addrhousenumber "
        "huisnummer husnummer numerocivico civico talonumero дом",
        "no nr number",
    ),
    "unit": (
        "unit suite addrunit addressline2 address2 单元",
    ),
    "district": (
        "district 区 区县 行政区 区域 addrdistrict bezirk stadtteil ortsteil bairro район kaupunginosa stadsdel "
        "wijk 区町村",
        "suburb neighbourhood neighborhood addrsuburb borough barrio quartier quartiere adname sublocality",
    ),
    "city": (
        "city 城市 市 addrcity stadt ort ville ciudad kaupunki cityname citta cidade stad plaats woonplaats "
        "miasto postort kota город 市区町村 postitoimipaikka",
        "town locality municipality commune kunta gemeinde gemeente village place municipio comune localidad "
        "localidade",
    ),
    "region": (
        "region state province 省 省份 bundesland provincia county regione estado uf departement pname область "
        "регион 都道府県 administrativearea",
    ),
    "brand": (
        "brand brandname 品牌",
    ),
    "lng": (
        "lng lon long longitude 经度 longitud laengengrad langengrad longitudine lengtegraad pituusaste долгота "
        "経度 경도 boylam خطالطول",
        "laenge lange geogrlange geographischelange gpslng gpslon gpslongitude geolng geolon geolongitude",
        "x coordx xcoord xcoordinate coordonneex coordenadax koordinatex",
    ),
    "lat": (
        "lat latitude 纬度 latitud breitengrad latitudine breedtegraad leveysaste широта 緯度 위도 enlem خطالعرض",
        "breite geogrbreite geographischebreite gpslat gpslatitude geolat geolatitude",
        "y coordy ycoord ycoordinate coordonneey coordenaday koordinatey",
    ),
    "lat_lng": (
        "latlng latlon latlong",
    ),
    "lng_lat": (
        "lnglat lonlat longlat 经纬度",
    ),
    "geometry": (
        "geometry geom wkt wkb thegeom shape geojson wkbgeometry point geowkt",
    ),
}  # fmt: skip
# What may stand before and behind a name, except of the roles in EXACT: store_address, 门店地址, lat_wgs84, latitudeE7.
_BEFORE = (
    "restaurant", "merchant", "location", "business", "outlet", "branch", "store", "place", "venue", "shop", "poi",
    "门店", "店铺", "商户", "商家", "店舗", "所在", "所属", "高德", "百度", "腾讯", "wgs84", "gcj02", "bd09",
)  # fmt: skip
_BEHIND = ("wgs84", "wgs", "gcj02", "gcj", "bd09", "degrees", "decimal", "deg", "dd", "e7", "e6")
EXACT = ("number", "unit", "other_names", "brand", "geometry")  # roles with nothing before or behind the name
SHIFTED = {"gcj": "gcj02", "火星": "gcj02", "高德": "gcj02", "腾讯": "gcj02", "bd09": "bd09", "百度": "bd09"}
# Texts with two numbers, whose order the values must show.
PAIRS = ("location", "coordinates", "coords", "coordinate", "position", "gps", "坐标", "geo")
ELEMENTS = ("node", "way", "relation")  # types of OpenStreetMap objects, not kinds of places
# Keys of OpenStreetMap with categories as values, in exports such as those of Overpass.
OSM_KEYS = ("amenity", "shop", "tourism", "leisure", "office", "craft", "healthcare", "historic", "railway", "building")


@dataclass(frozen=True)
class Published:
    """A published schema: its name, the test of its columns, and the sources of each role by preference."""

    name: str
    fits: Callable[[pa.Schema], bool]
    sources: Mapping[str, tuple[str, ...]]


def _all(*paths: str) -> Callable[[pa.Schema], bool]:
    return lambda schema: all(has_path(schema, path) for path in paths)


def _any(*tests: Callable[[pa.Schema], bool]) -> Callable[[pa.Schema], bool]:
    return lambda schema: any(test(schema) for test in tests)


PUBLISHED = (
    Published(
        "overture",  # docs.overturemaps.org/schema/reference/places/place
        _any(
            _all("names.primary", "categories.primary"),
            _all("names.primary", "taxonomy.primary"),
            _all("names.primary", "addresses.freeform"),
        ),
        {
            "id": ("id",),
            "name": ("names.primary",),
            "other_names": ("names.common",),
            "category": ("taxonomy.primary", "categories.primary", "basic_category", "categories.main"),
            "street": ("addresses.freeform",),
            "city": ("addresses.locality",),
            "region": ("addresses.region",),
            "brand": ("brand.names.primary",),
            "geometry": ("geometry",),
            "closed": ("operating_status",),
        },
    ),
    Published(
        "foursquare",  # docs.foursquare.com/data-products/docs/places-os-data-schema
        _any(_all("fsq_place_id", "name"), _all("fsq_id", "name", "latitude")),
        {
            "id": ("fsq_place_id", "fsq_id"),
            "name": ("name",),
            "category": ("fsq_category_labels",),
            "street": ("address",),
            "district": ("neighborhood",),
            "city": ("locality", "post_town"),
            "region": ("region",),
            "lng": ("longitude",),
            "lat": ("latitude",),
            "geometry": ("geom",),
            "closed": ("date_closed",),
        },
    ),
    Published(
        "geonames",  # download.geonames.org/export/dump/readme.txt
        _all("geonameid", "name", "latitude", "longitude"),
        {
            "id": ("geonameid",),
            "name": ("name",),
            "other_names": ("alternatenames",),
            "category": ("feature code", "feature_code", "fcode"),
            "lng": ("longitude",),
            "lat": ("latitude",),
        },
    ),
    Published(
        "photon",  # a dump for Photon (JSON lines), or answers of Photon (GeoJSON)
        _any(_all("osm_key", "osm_value"), _all("object_type", "categories", "centroid")),
        {
            "id": ("{object_type}{object_id}", "{osm_type}{osm_id}", "place_id"),
            "name": ("name.name", "name"),
            "other_names": ("name",),
            "category": ("osm_value", "osm_key", "categories"),
            "street": ("address.street", "street"),
            "number": ("housenumber",),
            "district": ("address.district", "address.suburb", "district"),
            "city": ("address.city", "city"),
            "region": ("address.county", "address.state", "county", "state"),
            "lng": ("centroid.0",),
            "lat": ("centroid.1",),
            "geometry": ("geometry",),
        },
    ),
    Published(
        "nominatim",  # nominatim.org/release-docs/latest/api/Output
        _any(_all("display_name", "osm_id"), _all("display_name", "place_id")),
        {
            "id": ("{osm_type}{osm_id}", "place_id"),
            "name": ("name", "namedetails.name", *(f"address.{key}" for key in OSM_KEYS)),
            "other_names": ("namedetails",),
            "address": ("display_name",),
            "category": ("type", "category", "class"),
            "street": ("address.road", "address.pedestrian", "address.footway", "address.square"),
            "number": ("address.house_number",),
            "district": ("address.city_district", "address.suburb", "address.borough", "address.quarter"),
            "city": ("address.city", "address.town", "address.village", "address.municipality"),
            "region": ("address.state",),
            "lng": ("lon",),
            "lat": ("lat",),
            "geometry": ("geometry",),
        },
    ),
    Published(
        "amap",  # lbs.amap.com/api/webservice/guide/api/search
        _all("name", "location", "adname", "cityname", "typecode"),
        {
            "id": ("id",),
            "name": ("name",),
            "category": ("type",),
            "street": ("address",),
            "district": ("adname",),
            "city": ("cityname",),
            "region": ("pname",),
            "lng_lat": ("location",),
        },
    ),
    Published(
        "baidu",  # lbsyun.baidu.com/index.php?title=webapi/guide/webservice-placeapi
        _all("uid", "name", "location.lng", "location.lat", "area"),
        {
            "id": ("uid",),
            "name": ("name",),
            "category": ("detail_info.tag", "detail_info.type"),
            "street": ("address",),
            "district": ("area",),
            "city": ("city",),
            "region": ("province",),
            "lng": ("location.lng",),
            "lat": ("location.lat",),
        },
    ),
    Published(
        "tencent",  # lbs.qq.com/service/webService/webServiceGuide/search/webServiceSearch
        _all("id", "title", "location.lng", "location.lat", "ad_info.adcode"),
        {
            "id": ("id",),
            "name": ("title",),
            "category": ("category",),
            "street": ("address",),
            "district": ("ad_info.district",),
            "city": ("ad_info.city",),
            "region": ("ad_info.province",),
            "lng": ("location.lng",),
            "lat": ("location.lat",),
        },
    ),
)
DATUMS = {"amap": "gcj02", "baidu": "bd09", "tencent": "gcj02"}  # unless the service is asked for another one


def key_of(name: str) -> str:
    """Return a column name without case, accents, spaces and punctuation."""
    letters = unicodedata.normalize("NFKD", name.replace("ß", "ss")).casefold()
    return _NO_LETTER.sub("", "".join(c for c in letters if not unicodedata.combining(c)))


def core_of(key: str) -> str:
    """Return the key of a column without what may stand before and behind it: address of storeaddress."""
    key = next((key.removeprefix(word) for word in _BEFORE if key.startswith(word) and key != word), key)
    return next((key.removesuffix(word) for word in _BEHIND if key.endswith(word) and key != word), key)


NAMES = {role: tuple(tuple(map(key_of, group.split())) for group in groups) for role, groups in _NAMES.items()}


def name_languages(columns: list[str]) -> list[str]:
    """Return the columns with the name in another language: name_en, name:sv."""
    found = [(column, match) for column in columns if (match := _LANGUAGE.match(column))]
    return [column for column, match in found if match[1].lower() not in _NOT_LANGUAGES]


def leaves(schema: pa.Schema) -> list[list[tuple[str, str]]]:
    """Return, by depth from 1, the paths of a table that are no structs, each with the key of its last name."""
    levels: list[list[tuple[str, str]]] = [[] for _ in range(MAX_DEPTH)]

    def add(path: str, name: str, kind: pa.DataType, depth: int) -> None:
        levels[depth].append((path, key_of(name)))
        if is_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind) and depth + 1 < MAX_DEPTH and key_of(name) not in _WITHOUT_ROLES:
            for field in kind:
                own = name if field.name == "text" else field.name  # displayName.text
                add(f"{path}.{field.name}", own, field.type, depth + 1)

    for field in schema:
        add(field.name, field.name, field.type, 0)
    return levels
