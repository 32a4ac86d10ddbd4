"""Words for the feature codes of GeoNames (download.geonames.org/export/dump/featureCodes_en.txt)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_WORDS = {
    "ADM1": "region", "ADM2": "district", "ADM3": "municipality", "ADM4": "municipality", "ADM5": "district",
    "AIRB": "airbase", "AIRF": "airfield", "AIRH": "heliport", "AIRP": "airport", "AIRQ": "abandoned airfield",
    "AMTH": "amphitheatre", "AMUS": "amusement park", "ANCH": "anchorage", "ANS": "archaeological site",
    "AQC": "aquaculture facility", "ARCH": "arch", "ART": "artwork", "ASTR": "observatory", "ATHF": "sports field",
    "ATM": "ATM", "BANK": "bank", "BAY": "bay", "BCH": "beach", "BDG": "bridge", "BLDG": "building",
    "BLDO": "office building", "BUSH": "bush", "BUSTN": "bus station", "BUSTP": "bus stop", "CAPE": "cape",
    "CARN": "cairn", "CAVE": "cave", "CH": "church", "CLF": "cliff", "CMP": "camp", "CMTY": "cemetery", "COVE": "cove",
    "CNL": "canal", "CRRL": "corral", "CSNO": "casino", "CSTL": "castle", "CSTM": "customs", "CTHSE": "courthouse",
    "CTRA": "atomic centre", "CTRCM": "community centre", "CTRF": "facility centre", "CTRM": "medical centre",
    "CTRR": "religious centre", "CTRS": "space centre", "CVNT": "convent", "DAM": "dam", "DIP": "embassy",
    "DPOF": "fuel depot", "EST": "estate", "ESTR": "rubber plantation", "FALL": "waterfall", "FCL": "facility",
    "FLD": "field", "FRM": "farm", "FRMS": "farms", "FRST": "forest", "FT": "fort", "FY": "ferry", "GATE": "gate",
    "GDN": "garden", "GHSE": "guest house", "GLCR": "glacier", "GRDN": "garden", "GRVE": "grave", "HBR": "harbour",
    "HERM": "hermitage", "HLL": "hill", "HLLS": "hills", "HMDA": "homestead", "HSE": "house", "HSP": "hospital",
    "HSPC": "clinic", "HSTS": "historical site", "HTL": "hotel", "ISL": "island", "ISLS": "islands", "ISLT": "islet",
    "JTY": "jetty", "LDNG": "landing", "LIBR": "library", "LK": "lake", "LKS": "lakes", "LGN": "lagoon",
    "LTHSE": "lighthouse", "MALL": "mall", "MAR": "marina", "MFG": "factory", "MILB": "military base", "MKT": "market",
    "ML": "mill", "MN": "mine", "MNMT": "monument", "MSQE": "mosque", "MSTY": "monastery", "MT": "mountain",
    "MTRO": "metro station", "MTS": "mountains", "MUS": "museum", "NOV": "novitiate", "NRWS": "narrows",
    "NUR": "nursery", "OBPT": "observation point", "OBS": "observatory", "OPRA": "opera house", "PAL": "palace",
    "PGDA": "pagoda", "PIER": "pier", "PK": "peak", "PKLT": "parking", "PLN": "plain", "PLZA": "square",
    "PND": "pond", "PO": "post office", "PP": "police", "PPL": "town", "PPLA": "town", "PPLA2": "town",
    "PPLA3": "town", "PPLA4": "town", "PPLC": "capital", "PPLH": "historical town", "PPLL": "village",
    "PPLX": "district", "PRK": "park", "PRN": "prison", "PRT": "port", "PS": "power station", "PSTB": "border post",
    "PT": "point", "QUAY": "quay", "RD": "road", "RECG": "golf course", "RECR": "racetrack", "REST": "restaurant",
    "RET": "store", "RHSE": "rest house", "RK": "rock", "RKS": "rocks", "RSRT": "resort", "RSTN": "railway station",
    "RSTP": "railway stop", "RSV": "reservoir", "RUIN": "ruin", "SCH": "school", "SCHC": "college",
    "SCHM": "military school", "SCHT": "technical school", "SHRN": "shrine", "SPA": "spa", "SPNG": "spring",
    "SQR": "square", "ST": "street", "STDM": "stadium", "STM": "stream", "STNB": "research station",
    "STNR": "radio station", "STRT": "strait", "SWMP": "swamp", "SYG": "synagogue", "TEMP": "temple", "THTR": "theatre",
    "TMB": "tomb", "TMPL": "temple", "TNL": "tunnel", "TOWR": "tower", "TRAM": "tram", "TRIG": "trig point",
    "UNIV": "university", "VAL": "valley", "VETF": "veterinary clinic", "VIN": "vineyard", "VINS": "vineyards",
    "VLC": "volcano", "WALL": "wall", "WHRF": "wharf", "WLL": "well", "ZOO": "zoo",
}  # fmt: skip
_CODES, _VALUES = pa.array(list(_WORDS)), pa.array(list(_WORDS.values()))


def category_words(codes: pa.StringArray) -> pa.StringArray:
    """Return the words of feature codes; null for a code that is not in the list. Shape: (N,) -> (N,)."""
    return _VALUES.take(pc.index_in(codes, _CODES))
