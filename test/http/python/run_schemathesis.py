"""Runs Schemathesis with the given arguments in the given folder, and prints how it ended and what it said as JSON."""
import json
import os
import subprocess
import sys

folder, *arguments = sys.argv[1:]
done = subprocess.run([sys.executable, '-m', 'schemathesis.cli', '--config-file', folder + '/schemathesis.toml', 'run', *arguments], cwd=folder, env={**os.environ, 'TERM': 'dumb', 'COLUMNS': '160'}, capture_output=True, text=True)
print(json.dumps({'code': done.returncode, 'output': done.stdout + done.stderr}))
