"""Aliases: the classic format by example, R4 to R8 over random tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.route import aliases as module
from mta.route.aliases import Aliases, Expansion, Leaf, split_members
from mta.types import Mailbox

HERE = "here.test"
USERS = ("alice", "bob", "carol")


def no_list(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def expand(
    table: dict[str, tuple[str, ...]],
    local: str,
    read: Callable[[str], str] = no_list,
    first_user: str = "alice",
    domain: str = HERE,
) -> Expansion:
    known = USERS.__contains__
    rules = Aliases(table, known, read, lambda d: d in (HERE, "too.test"), first_user)
    expansion = Expansion(rules)
    expansion.run(Mailbox(local, domain))
    return expansion


def ends(expansion: Expansion) -> list[str]:
    return [leaf.action or str(leaf.mailbox) for leaf in expansion.leaves]


def test_user_and_no_user() -> None:
    assert expand({}, "Bob").leaves == [Leaf(Mailbox("Bob", HERE), "", None)]
    refused = expand({}, "nosuch")
    assert (refused.leaves, refused.refusal) == ([], module.NO_USER)


def test_every_kind_of_member() -> None:
    members = ("Alice", "x@far.test", "|prog -a b", '"|two words"', "/var/x", '"/with space"')
    table = {"team": (*members, "bob@too.test", "Carol Smith <carol@here.test>", '"c d"@far.test')}
    found = expand(table, "TEAM")
    expected = ["Alice@here.test", "x@far.test", "|prog -a b", "|two words", "/var/x"]
    expected += ["/with space", "bob@too.test", "carol@here.test", '"c d"@far.test']
    assert ends(found) == expected
    assert found.faults == []
    assert found.leaves[2] == Leaf(Mailbox("team", HERE), "|prog -a b", None)


def test_nested_and_diamond() -> None:
    table = {"a": ("b", "c"), "b": ("d", "alice"), "c": ("d", "alice", "bob"), "d": ("carol",)}
    found = expand(table, "a")
    assert ends(found) == ["carol@here.test", "alice@here.test", "bob@here.test"]


def test_a_loop_is_named() -> None:
    table = {"start": ("a",), "a": ("b",), "b": ("bob", "c@here.test"), "c": ("a",)}
    found = expand(table, "start")
    assert found.refusal is not None
    assert str(found.refusal.reply) == "550 5.4.6 alias loop: a -> b -> c -> a"


def test_depth_and_number() -> None:
    deep = {f"a{i}": (f"a{i + 1}",) for i in range(19)} | {"a19": ("bob",)}
    assert ends(expand(deep, "a0")) == ["bob@here.test"]
    deep |= {"a19": ("a20",), "a20": ("bob",)}
    assert expand(deep, "a0").refusal == module.TOO_DEEP
    many = tuple(f"u{i}@far.test" for i in range(module.MAX_LEAVES))
    assert expand({"all": many}, "all").refusal is None
    assert expand({"all": (*many, "more@far.test")}, "all").refusal == module.TOO_MANY


def test_each_alias_is_expanded_once() -> None:
    class Counted(dict[str, tuple[str, ...]]):
        asked = 0

        def get(self, key: str, default: object = None) -> object:
            self.asked += 1
            return super().get(key, default)

    table = Counted({f"a{i}": (f"a{i + 1}", f"A{i + 1}@too.test") for i in range(19)})
    table["a19"] = ("bob",)
    assert ends(expand(table, "a0")) == ["bob@here.test"]
    assert table.asked < 50  # and not 2 to the power of 19


def test_backslash_ends_expansion() -> None:
    table = {"alice": ("\\alice", "bob"), "bob": ("carol",), "x": ("\\nosuch", "\\y@far.test")}
    assert ends(expand(table, "alice")) == ["alice@here.test", "carol@here.test"]
    found = expand(table, "x")
    assert ends(found) == ["y@far.test"]
    assert found.faults == [("member nosuch@here.test", "neither an alias nor a user")]


def test_r7_self_reference() -> None:
    table = {"bob": ("bob", "carol"), "alice": ("Alice@here.test",), "ghost": ("ghost", "bob+x")}
    assert ends(expand(table, "bob")) == ["bob@here.test", "carol@here.test"]
    assert ends(expand(table, "alice")) == ["Alice@here.test"]
    assert ends(expand(table, "bob+list")) == ["bob@here.test", "carol@here.test"]
    found = expand(table, "ghost")
    assert ends(found) == ["bob@here.test", "carol@here.test"]
    assert found.faults == [("member ghost@here.test", "neither an alias nor a user")]


@given(st.sampled_from(USERS), st.sampled_from(["{}", "{}@here.test", "\\{}", "{}+tag"]))
def test_r7_any_spelling(user: str, spelling: str) -> None:
    found = expand({user: (spelling.format(user), "x@far.test")}, user)
    assert found.refusal is None
    assert len(found.leaves) == 2
    assert found.leaves[0].mailbox.local.partition("+")[0] == user


def test_sub_addresses() -> None:
    table = {"bob+lists": ("|archive",), "team": ("carol",)}
    assert ends(expand(table, "Bob+Lists")) == ["|archive"]
    assert ends(expand(table, "bob+else")) == ["bob+else@here.test"]
    assert ends(expand(table, "team+x")) == ["carol@here.test"]
    assert expand(table, "+bob").refusal == module.NO_USER


def test_bad_members_are_left_out_alone() -> None:
    found = expand({"team": ("a b", "nosuch", "", "|", "|a\nb", ":include:", "bob")}, "team")
    assert ends(found) == ["bob@here.test"]
    assert found.refusal is None
    assert [subject for subject, _ in found.faults] == [
        "member a b",
        "member nosuch@here.test",
        "member ",
        "member |",
        "member |a\nb",
        "member :include:",
    ]


def test_owner() -> None:
    table = {
        "list": ("alice", "inner", "|log"),
        "owner-list": ("bob",),
        "inner": ("carol",),
        "own": ("bob", "x@far.test"),
        "owner-own": ("carol",),
        "outer": ("own", "alice"),
        "owner-outer": ("alice",),
    }
    owner = Mailbox("owner-list", HERE)
    assert [leaf.owner for leaf in expand(table, "list").leaves] == [owner, owner, owner]
    owners = [str(leaf.owner) for leaf in expand(table, "outer").leaves]
    assert owners == ["owner-own@here.test", "owner-own@here.test", "owner-outer@here.test"]
    assert [leaf.owner for leaf in expand(table, "owner-list").leaves] == [None]
    table["owner-owner"] = ("carol",)
    up = Mailbox("owner-owner", "too.test")
    assert [leaf.owner for leaf in expand(table, "owner-list", domain="too.test").leaves] == [up]
    assert [leaf.owner for leaf in expand(table, "owner-owner").leaves] == [None]


def test_include() -> None:
    files = {
        "/lists/all": "# ours\nalice, bob # and\n\n  carol\r\nx@far.test,y@far.test\nteam\n",
        "rel": '"a, #b"@far.test # z\n',
    }
    table = {"all": (":include:/lists/all", '":include: rel"'), "team": ("bob", "|t")}
    found = expand(table, "all", files.__getitem__)
    expected = ["alice", "bob", "carol", "x@far.test", "y@far.test", "|t", '"a, #b"@far.test']
    assert ends(found) == [e if "@" in e or "|" in e else e + "@here.test" for e in expected]
    assert found.faults == []


def test_include_that_lists_the_alias_itself() -> None:
    found = expand({"bob": (":include:f",)}, "bob", lambda _: "bob\ncarol\n")
    assert ends(found) == ["bob@here.test", "carol@here.test"]


@pytest.mark.parametrize(
    "problem", [FileNotFoundError(2, "no"), UnicodeError("no"), ConfigError("f: mode 0666")]
)
def test_unreadable_include_defers_the_whole(problem: Exception) -> None:
    def read(path: str) -> str:
        raise problem

    found = expand({"all": ("bob", ":include:/secret/f", "carol")}, "all", read)
    assert found.refusal == module.UNREADABLE
    assert found.refusal.reply.transient
    assert "secret" not in found.refusal.reply.text
    assert found.faults == [("include /secret/f", str(problem))]


@given(st.lists(st.sampled_from(["|x", "/f", '"|x"', '"/f"', ":include:g", '":INCLUDE:g"', "bob"])))
def test_r8_include_gives_no_action(lines: list[str]) -> None:
    found = expand({"all": (":include:f", "carol")}, "all", {"f": "\n".join(lines)}.__getitem__)
    assert {leaf.action for leaf in found.leaves} == {""}
    assert found.refusal is None
    assert len(found.faults) == sum(line != "bob" for line in lines)


def test_postmaster_by_default() -> None:
    assert ends(expand({}, "PostMaster")) == ["alice@here.test"]
    assert ends(expand({}, "mailer-daemon")) == ["alice@here.test"]
    assert ends(expand({"postmaster": ("bob",)}, "MAILER-DAEMON+x")) == ["bob@here.test"]
    assert ends(expand({"mailer-daemon": ("bob",)}, "mailer-daemon")) == ["bob@here.test"]
    assert ends(expand({"root": ("carol",)}, "postmaster", first_user="")) == ["carol@here.test"]
    assert ends(expand({"team": ("postmaster",)}, "team")) == ["alice@here.test"]


names = st.sampled_from(["a", "b", "c", "d", "bob", "postmaster", "owner-a", "owner-owner"])
members = (
    names
    | names.map("\\{}".format)
    | st.sampled_from(["bob@far.test", "|run", "/file", ":include:f", "alice+x", "nosuch", "(", ""])
)
tables = st.dictionaries(names, st.lists(members, max_size=5).map(tuple))
lists = st.lists(members, max_size=4).map("\n".join)


@given(tables, names, lists)
@example({"a": (":include:f",)}, "a", "")
def test_r4_r5_expansion_ends(table: dict[str, tuple[str, ...]], name: str, text: str) -> None:
    found = expand(table, name, lambda _: text)
    empty = not all(table.values()) or not split_members(text)
    assert found.leaves or found.faults or found.refusal or empty
    keys = [(leaf.mailbox, leaf.action) for leaf in found.leaves]
    assert len(keys) == len(set(keys))
    assert {leaf.action for leaf in found.leaves} <= {"", "|run", "/file"}
    for leaf in found.leaves:
        assert (
            leaf.action or leaf.mailbox.domain != HERE or leaf.mailbox.local in (*USERS, "alice+x")
        )


@given(tables, names)
def test_r6_a_refused_loop_is_real(table: dict[str, tuple[str, ...]], name: str) -> None:
    found = expand(table, name, lambda _: "")
    if found.refusal is not None and found.refusal.reply.status == "5.4.6":
        cycle = found.refusal.reply.text.removeprefix("alias loop: ").split(" -> ")
        assert len(cycle) > 2
        assert cycle[0] == cycle[-1]
        whole = {"postmaster": ("alice",)} | table
        assert all(b in whole[a] for a, b in itertools.pairwise(cycle))


@given(tables)
def test_r6_no_loop_is_missed(table: dict[str, tuple[str, ...]]) -> None:
    """Where nothing is refused, the aliases reached form no cycle but self-references."""
    for name in table:
        found = expand(table, name, lambda _: "")
        if found.refusal is not None:
            continue
        reached, todo = set(), [name]
        while todo:
            now = todo.pop()
            nexts = [m for m in table.get(now, ()) if m in table and m != now]
            assert name == now or name not in nexts
            todo += [n for n in nexts if n not in reached]
            reached.update(nexts)


def test_split_members() -> None:
    assert split_members("") == []
    assert split_members("a,b ,\tc\n\n#x\n d#e, f #g, h\n") == ["a", "b", "c", "d#e", "f"]
    assert split_members('"a,b" <c@d>, "x\\",y"@z\n') == ['"a,b" <c@d>', '"x\\",y"@z']
    assert split_members('"open, quote\nnext') == ['"open, quote', "next"]
    assert split_members("a\x0bb\x85c\n") == ["a\x0bb\x85c"]
    assert split_members("tail\\") == ["tail\\"]


@given(st.lists(st.sampled_from(["a", "b@c", '"x, #y"@z', "|p"]), max_size=6), st.data())
def test_split_members_any_layout(wanted: list[str], data: st.DataObject) -> None:
    breaks = st.sampled_from([",", "\n", " ,\n", "\n# note, more\n", " # note\n", ",,\r\n"])
    text = "".join(m + data.draw(breaks) for m in wanted)
    assert split_members(text) == wanted


def test_notes_only_when_asked() -> None:
    told: list[tuple[str, str, str]] = []
    rules = Aliases({"team": ("bob",) * 12}, USERS.__contains__, no_list, lambda d: d == HERE)
    Expansion(rules, lambda *step: told.append(step)).run(Mailbox("team", HERE))
    assert told[0] == ("alias team", "yes", ", ".join(["bob"] * 10) + " and 2 more")
    assert told[1:3] == [("alias bob", "no", ""), ("user bob", "yes", "")]
