"""Prints the key and the values of a session as another service in Python keeps them: JSON { key, pickles: { protocol: hex } }."""
import hashlib
import json
import pickle
import sys

token, secret, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3])
session = {"user_id": 42, "account_id": "acme", "is_staff": False}
print(json.dumps({
    "key": hashlib.pbkdf2_hmac("sha256", token.encode(), secret.encode(), iterations, 32).hex(),
    "pickles": {protocol: pickle.dumps(session, protocol).hex() for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}))
