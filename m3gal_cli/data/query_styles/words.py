"""Words of many languages for made queries: relations between two places, general words, texts that mean no place."""

from __future__ import annotations

import re

# Wordings of "y beside x" by the letters of the two names. The first entry whose letters occur in the names counts.
RELATIONS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile("[\u3040-\u30ff]"), ("{x}の向かいの{y}", "{x}の隣の{y}", "{x}近くの{y}", "{x} {y}")),
    (
        re.compile("[\u2e80-\u9fff]"),
        (
            *("{x}对面的{y}", "{x}对面{y}", "{x}旁边的{y}", "{x}旁边{y}", "{x}附近的{y}", "{x}附近{y}", "{x}隔壁{y}"),
            *("{x}斜对面{y}", "{x}周围{y}", "{x}里面{y}", "{x}门口{y}", "{x}后面{y}", "{x}对街{y}", "{x}往东{y}"),
            *("{x}东侧{y}", "{x}西侧{y}", "{x}南边{y}", "{x}北面{y}", "{x}东北方向{y}", "{x}西南角{y}", "{x}偏北{y}"),
            *("{y}({x}对面)", "{y}({x}旁)", "{x}{y}", "{x}{y}"),
        ),
    ),
    (re.compile("[\uac00-\ud7af]"), ("{x} 맞은편 {y}", "{x} 근처 {y}", "{x} 옆 {y}", "{x} {y}")),
    (re.compile("[\u0e00-\u0e7f]"), ("{y} ตรงข้าม {x}", "{y} ใกล้ {x}", "{y} ข้าง {x}", "{y} {x}")),
    (re.compile("[\u0400-\u04ff]"), ("{y} напротив {x}", "{y} рядом с {x}", "{y} возле {x}", "{y}, {x}", "{y} {x}")),
    (re.compile("[\u0600-\u06ff]"), ("{y} مقابل {x}", "{y} بجانب {x}", "{y} قرب {x}", "{y} {x}")),
    (re.compile("[\u0370-\u03ff]"), ("{y} απέναντι από {x}", "{y} κοντά σε {x}", "{y} δίπλα σε {x}", "{y}, {x}")),
    (
        re.compile(""),
        (
            *("{y} opposite {x}", "{y} near {x}", "{y} next to {x}", "{y} by {x}", "{y} across from {x}"),
            *("{y} behind {x}", "{y} north of {x}", "{y} at {x}", "{y} in {x}"),
            *("opposite {x} {y}", "opposite {x} the {y}", "near {x} {y}", "{y}, {x}", "{y} {x}"),
        ),
    ),
)
# Words that people add before or after a name, by its letters.
ADDED_WORDS: tuple[tuple[re.Pattern[str], tuple[str, ...], tuple[str, ...]], ...] = (
    (re.compile("[\u3040-\u30ff]"), ("株式会社",), ("店", "本店", "駅前店")),
    (re.compile("[\u2e80-\u9fff]"), (), ("店", "有限公司", "大厦", "中心", "分店", "公司", "门店")),
    (re.compile("[\u0e00-\u0e7f]"), ("ร้าน", "บริษัท"), ("สาขา",)),
    (re.compile("[\uac00-\ud7af]"), (), ("점", "본점", "주식회사")),
    (re.compile("[\u0400-\u04ff]"), ("магазин", "кафе", "ООО"), ("магазин", "центр", "офис")),
    (
        re.compile(""),
        ("the", "restaurant", "cafe", "shop", "bar", "hotel"),
        ("restaurant", "cafe", "shop", "store", "bar", "center", "ltd", "inc", "co", "group", "office"),
    ),
)
NO_PLACE = (
    *("SELECT * FROM users", "DROP TABLE pois;", "' OR 1=1 --", "<script>alert(1)</script>", "print('hello')", "null"),
    *('{"query": ""}', "import numpy as np", "404 not found", "undefined", "NaN", "git push origin main"),
    *(
        "https://example.com",
        "www.example.org/index.html",
        "user@example.com",
        "localhost:8080",
        "#hashtag",
        "@someone",
    ),
    *("+358 40 1234567", "13800138000", "(555) 010-9999", "12345", "00000", "1", "3.14159", "2023-01-01", "10:30"),
    *("asdfghjkl", "qwerty", "zxcvbnm", "fjdksla", "aaaaaaa", "x", "...", "!!!", "???", "test test", "foo bar baz"),
    *("hello world", "how are you", "good morning", "thank you very much", "what time is it", "call me back", "ok"),
    *("weather tomorrow", "cheap flights", "buy iphone", "usb charger", "red shoes size 42", "lorem ipsum dolor"),
    *("今天天气怎么样", "你好", "手机充电器", "我要回家", "谢谢", "明天几点开会", "苹果手机多少钱", "哈哈哈哈", "测试"),
    *("こんにちは", "明日の天気", "안녕하세요", "สวัสดี", "привет как дела", "погода завтра", "مرحبا كيف حالك"),
    *("hyvää huomenta", "mitä kuuluu", "wie geht es dir", "bonjour ça va", "qué tiempo hace mañana", "god morgen"),
)
