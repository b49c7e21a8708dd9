# Replaced by the application that is mounted over this folder.
from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return "no application is mounted\n"
