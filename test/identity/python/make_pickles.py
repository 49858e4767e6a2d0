"""Prints pickles as Python writes them, as JSON: for each protocol, values that are read and values that are not.

A value is described as the test describes what it read: {"dict": [[key, value], …]}, {"list": […]}, {"set": […]},
{"bytes": "<hex>"}, {"int": "<decimal>"}, {"float": "<repr>"}, or itself. Tuples are lists.
"""
import collections
import datetime
import decimal
import json
import pickle
import pickletools
import uuid


def describe(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dict):
        return {"dict": [[describe(key), describe(each)] for key, each in value.items()]}
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((describe(each) for each in value), key=json.dumps)}
    return {"list": [describe(each) for each in value]}


class Person:
    def __init__(self):
        self.account_id = "a"


def recursive_list():
    value = []
    value.append(value)
    return value


def recursive_dict():
    value = {}
    value["account_id"] = value
    return value


def shared():
    value = ["x"]
    return {"a": value, "b": value}


def bomb():
    value = ["lol"]
    for _ in range(30):
        value = [value, value]
    return value


READ = {
    "session": {"user_id": 42, "account_id": "acme"},
    "session with texts": {"user_id": "u-1", "account_id": "acme", "is_staff": False, "last": None},
    "public": {"account_id": 7},
    "empty dict": {},
    "None": None,
    "booleans": [True, False],
    "integers": [0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**53 - 1, 2**53, -(2**53), 2**64, -(2**100), 10**100],
    "floats": [0.0, -0.0, 1.5, -2.25, 1e300, 5e-324, 0.1, float("inf"), float("-inf")],
    "texts": ["", "plain", "ümläut", "日本語", "😀", "a\\b", "line\nfeed\r", "nul\0", "'quoted' \"twice\"", "\\u0041", "x" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "lists": [[], [1], [[[]]], list(range(1500))],
    "dicts": {"a": {"b": {"c": [1, {"d": "e"}]}}, 1: "one", None: "none", 1.5: "float"},
    "many keys": {str(n): n for n in range(1500)},
    "a text many times": ["again"] * 50,
}
# in older protocols these name a function or a class
READ_SINCE = {
    3: {"bytes": [b"", b"bytes", bytes(range(256)), b"x" * 300]},
    4: {"sets": [{1, 2, 3}, set(), {"a"}], "frozensets": [frozenset(), frozenset({1, "b"})]},
    5: {"bytearray": bytearray(b"array")},
}
REFUSED = {
    "a class": Person,
    "an object": Person(),
    "in a dict": {"user_id": 1, "account_id": Person()},
    "a function": print,
    "datetime": datetime.datetime(2024, 1, 1),
    "UUID": uuid.UUID(int=1),
    "Decimal": decimal.Decimal("1.5"),
    "OrderedDict": collections.OrderedDict(a=1),
    "complex": 1j,
    "range": range(3),
    "recursive list": recursive_list(),
    "recursive dict": recursive_dict(),
    "a list in two places": shared(),
    "a bomb": bomb(),
    "an integer of 100 bytes": 2**800,
    "nested too deep": (lambda deep: deep(deep, 40))(lambda deep, left: [] if left == 0 else [deep(deep, left - 1)]),
    "a lone surrogate": "\ud800",
    "a tuple as key": {(1, 2): 3},
}
REFUSED_UNTIL = {2: {"bytes": b"bytes"}, 3: {"set": {1}, "frozenset": frozenset({1})}}

cases = []
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    read = dict(READ)
    for since, more in READ_SINCE.items():
        read.update(more if protocol >= since else {})
    refused = dict(REFUSED)
    for until, more in REFUSED_UNTIL.items():
        refused.update(more if protocol <= until else {})
    for name, value in read.items():
        text = pickle.dumps(value, protocol)
        cases.append({"protocol": protocol, "name": name, "pickle": text.hex(), "value": describe(value)})
        cases.append({"protocol": protocol, "name": f"{name}, optimized", "pickle": pickletools.optimize(text).hex(), "value": describe(value)})
    for name, value in refused.items():
        cases.append({"protocol": protocol, "name": name, "pickle": pickle.dumps(value, protocol).hex()})
print(json.dumps(cases))
