import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from mta.config.json_schema import json_schema, json_text
from mta.config.kinds import keys
from mta.config.schema import SCHEMA

ETC = Path(__file__).parents[2] / "etc"
GOOD = [{"name": "a", "program": "local"}]


def test_the_schema_beside_the_sample_is_current():
    assert (ETC / "mta.schema.json").read_text() == json_text(), (
        "write it anew from mta.config.json_schema.json_text()"
    )


def test_the_schema_is_one_and_takes_the_sample():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load((ETC / "mta.yaml").read_text()), json_schema())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"channels": []},
        {"channels": GOOD, "zzz": 1},
        {"channels": GOOD, "spool": ["a"]},
        {"channels": GOOD, "limits": {"message_size": "10MB"}},
        {"channels": GOOD, "limits": {"recipients": 0}},
        {"channels": GOOD, "log": {"formats": ["exim"]}},
        {"channels": GOOD, "local": {"mailbox": "mail/{user}"}},
        {"channels": [{"name": "A", "program": "local"}]},
        {"channels": [{"name": "a"}]},
        {"channels": [{"name": "a", "program": "delay"}]},
        {"channels": [{"name": "a", "program": "smtp", "tls": "always"}]},
        {"channels": GOOD, "tls": {"minimum": "1.1"}},
        {"channels": [{"name": "a", "program": "local", "port": 25}]},
        {"channels": [{"name": "a", "program": "/bin/x", "relay": "x"}]},
        {"channels": [{"name": "a", "program": "pipe"}]},
        {"channels": [{"name": "a", "program": "smtp", "port": "25"}]},
        {"channels": [{"name": "a", "program": "smtp", "dead_ttl": 15}]},
    ],
)
def test_the_schema_refuses_what_we_refuse(config, tmp_path):
    from mta.config.build import build
    from mta.errors import ConfigError

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, json_schema())
    (tmp_path / "mta.yaml").write_text(json.dumps(config))
    with pytest.raises(ConfigError):
        build(str(tmp_path / "mta.yaml"))


def test_every_key_says_what_it_is_for_once():
    names = [dotted for dotted, _ in keys(SCHEMA)]
    assert len(names) == len(set(names))
    assert all(key.about.endswith(".") for _, key in keys(SCHEMA))
