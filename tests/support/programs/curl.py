"""`curl` of documented commands: the options they use; ids of the tiny world in place of the example's.

What curl does with a body is done here too: without a content type of its own it is a form's.
"""

import argparse
import json
import os
import sys

import httpx

from tests.support import world

parser = argparse.ArgumentParser("curl")
parser.add_argument("url")
parser.add_argument("-s", "--silent", action="store_true")
parser.add_argument("-N", "--no-buffer", action="store_true")
parser.add_argument("-X", "--request")
parser.add_argument("-H", "--header", action="append", default=[])
parser.add_argument("-d", "--data")
asked = parser.parse_args()

url = asked.url.removeprefix("http://").replace("localhost:8080", os.environ["STAR_TEST_LOCALHOST_8080"])
headers = {"content-type": "application/x-www-form-urlencoded"} if asked.data else {}
for header in asked.header:
    name, _, value = header.partition(":")
    headers[name.strip().lower()] = value.strip()
body = asked.data
if body:
    fields = json.loads(body)
    if "user_id" in fields:
        fields["user_id"] = world.USERS[0]
    if "candidates" in fields:
        fields["candidates"] = [world.ITEMS[-place].item_id for place in range(1, len(fields["candidates"]) + 1)]
    body = json.dumps(fields)
method = asked.request or ("POST" if body else "GET")
response = httpx.request(method, f"http://{url}", headers=headers, content=body, timeout=60, trust_env=False)
sys.stdout.write(response.text)
sys.exit(f"{response.status_code}" if response.is_error else 0)
