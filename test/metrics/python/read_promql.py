"""Reads alert rules and dashboards as Prometheus and Grafana do, and prints each expression with what a parser of PromQL finds in it."""
import json
import sys

import promql_parser
import yaml


def expressions():
    rules, *dashboards = sys.argv[1:]
    for group in yaml.safe_load(open(rules))['groups']:
        for rule in group['rules']:
            yield rule['alert'], rule['expr']
    for dashboard in dashboards:
        for panel in json.load(open(dashboard))['panels']:
            for target in panel.get('targets', []):
                yield panel['title'], target['expr']


def read(name, text):
    try:
        return {'name': name, 'expression': text, 'parsed': str(promql_parser.parse(text))}
    except ValueError as error:
        return {'name': name, 'expression': text, 'error': str(error)}


print(json.dumps([read(name, text) for name, text in expressions()]))
