"""Every bug of the exercises: which text of a right source it replaces, and what is seen of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["BUGS", "Bug"]

Level = Literal["easy", "medium", "hard"]
Trains = Literal["as well", "worse", "by luck", "not"]


class Bug(NamedTuple):
    """One bug in one right source.

    Attributes:
        source: the module beside this file that is right.
        level: how hard it is to find.
        code: of the mistake in the doctor's catalogue.
        trains: how the network learns to remember one token for one timestep, with this backward; "by luck"
            where that depends on the weights it begins with.
        wrong: the parameters whose gradients come out wrong; none where they are right the first time.
        edits: pairs of right and wrong text; each right text stands in the source once.
    """

    source: str
    level: Level
    code: str
    trains: Trains
    wrong: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]


HIDDEN = ("W_xh", "W_hh", "b_h")
ALL = ("W_xh", "W_hh", "W_hy", "b_h", "b_y")
GATES = ("W_xh", "W_hh", "b_xh", "b_hh")

LOOP = "for t in reversed(range(T)):"


def _bug(
    source: str, level: Level, code: str, trains: Trains, wrong: tuple[str, ...], *edits: tuple[str, str]
) -> Bug:
    return Bug(source, level, code, trains, wrong, edits)


def _rnn() -> tuple[Bug, ...]:
    derivative = "(1 - hs[t] ** 2) * dh[t]"
    carry = 'dh_next = da[t] @ params["W_hh"]'
    minus_one = 'dy[t][np.arange(B), cache["targets"][t]] -= 1'
    state = '(hs[t - 1] if t > 0 else cache["h0"])'
    outer = f'd["W_hh"] += da[t].T @ {state}'
    later = 'if t > 0:\n            d["W_hh"] += da[t].T @ hs[t - 1]'
    add_at = 'np.add.at(d["W_xh"].T, xs[t], da[t])'
    in_place = ("dy, dh, da = np.zeros_like(ps), ", "dy, dh, da = ps, "), ("        dy[t] = ps[t]\n", "")
    return (
        _bug("rnn", "easy", "BPTT001", "worse", HIDDEN, (" + dh_next", "")),
        _bug("rnn", "easy", "BPTT010", "as well", ("W_hh",), (outer, outer.replace("+=", "="))),
        _bug("rnn", "easy", "BPTT016", "not", ALL, (f"        {minus_one}\n", "")),
        _bug("rnn", "easy", "BPTT012", "by luck", HIDDEN, (derivative, "(1 - hs[t]) * dh[t]")),
        _bug("rnn", "easy", "BPTT005", "worse", HIDDEN, (carry, f"{carry}.T")),
        _bug("rnn", "easy", "BPTT027", "not", HIDDEN, (LOOP, "for t in range(T):")),
        _bug("rnn", "easy", "BPTT009", "not", ("W_hh",), (outer, f'd["W_hh"] += {state}.T @ da[t]')),
        _bug("rnn", "medium", "BPTT004", "as well", HIDDEN, (carry, carry.replace("da", "dh"))),
        _bug("rnn", "medium", "BPTT039", "not", HIDDEN, (carry, "dh_next = dh[t]")),
        _bug(
            *("rnn", "medium", "BPTT003", "as well", HIDDEN),
            *((" + dh_next", ""), (derivative, f"{derivative} + dh_next")),
        ),
        _bug("rnn", "medium", "BPTT017", "not", ALL, (minus_one, minus_one.replace("np.arange(B)", ":"))),
        _bug("rnn", "medium", "BPTT006", "not", ("W_hh",), (outer, outer.replace(state, "hs[t]"))),
        _bug("rnn", "medium", "BPTT024", "as well", ("W_xh",), (add_at, 'd["W_xh"].T[xs[t]] += da[t]')),
        _bug("rnn", "medium", "BPTT019", "as well", ALL, ("        dy[t] /= T * B\n", "")),
        _bug("rnn", "medium", "BPTT026", "worse", ALL, (LOOP, "for t in reversed(range(T)[-3:]):")),
        _bug("rnn", "hard", "BPTT007", "as well", ("W_hh",), (outer, outer.replace(state, "hs[t - 1]"))),
        _bug("rnn", "hard", "BPTT008", "as well", ("W_hh",), (outer, later)),
        _bug("rnn", "hard", "BPTT025", "worse", ALL, (LOOP, "for t in reversed(range(1, T)):")),
        _bug(
            "rnn", "hard", "BPTT020", "as well", ("b_h",), ('d["b_h"] += da[t].sum', 'd["b_h"] += da[t].mean')
        ),
        _bug("rnn", "hard", "BPTT038", "as well", (), *in_place),
    )


def _rnn_padded() -> tuple[Bug, ...]:
    name = "rnn_padded"
    derivative = "(1 - np.tanh(pre[t]) ** 2) * dh[t]"
    masked = "dy *= mask[:, :, None] / mask.sum()"
    carry = 'np.where(live, da[t] @ params["W_hh"], dh[t])'
    return (
        _bug(name, "easy", "BPTT014", "as well", HIDDEN, (derivative, "dh[t]")),
        _bug(
            name, "easy", "BPTT018", "by luck", ALL, ("dy = softmax(ys, axis=2)", "dy = softmax(ys, axis=1)")
        ),
        _bug(name, "medium", "BPTT011", "by luck", HIDDEN, (derivative, "(1 - pre[t] ** 2) * dh[t]")),
        _bug(name, "medium", "BPTT015", "not", HIDDEN, (derivative, "hs[t] * (1 - hs[t]) * dh[t]")),
        _bug(name, "medium", "BPTT021", "worse", ALL, (masked, "dy /= mask.sum()")),
        _bug(name, "medium", "BPTT002", "as well", HIDDEN, ("dh[t] += dh_next", "dh[t] += 2 * dh_next")),
        _bug(name, "hard", "BPTT013", "worse", HIDDEN, (derivative, "(1 - hs[t - 1] ** 2) * dh[t]")),
        _bug(name, "hard", "BPTT023", "as well", HIDDEN, (carry, f"np.clip({carry}, -0.5, 0.5)")),
        _bug(name, "hard", "BPTT022", "as well", HIDDEN, (carry, 'da[t] @ params["W_hh"]')),
    )


def _lstm() -> tuple[Bug, ...]:
    exchanged = ("di = dc[t] * g", "di = dc[t] * i"), ("dg = dc[t] * i", "dg = dc[t] * g")
    first, second = "di * i * (1 - i)", "df * f * (1 - f)"
    seed = "dc_next = np.zeros_like(cs[-1])"
    return (
        _bug("lstm", "easy", "BPTT028", "as well", HIDDEN, ("dc[t] += o", "dc[t] = o")),
        _bug("lstm", "easy", "BPTT029", "as well", HIDDEN, ("dc_next = dc[t] * f", "dc_next = dc[t]")),
        _bug("lstm", "medium", "BPTT014", "as well", HIDDEN, (second, "df")),
        _bug("lstm", "medium", "BPTT042", "worse", HIDDEN, *exchanged),
        _bug("lstm", "medium", "BPTT031", "not", HIDDEN, (f"{first}, {second}", f"{second}, {first}")),
        _bug("lstm", "hard", "BPTT033", "as well", HIDDEN, ("do = dh[t] * tanh_c", "do = dh[t] * cs[t]")),
        _bug("lstm", "hard", "BPTT032", "as well", HIDDEN, ("df = dc[t] * cs[t - 1]", "df = dc[t] * cs[t]")),
        _bug("lstm", "hard", "BPTT030", "as well", HIDDEN, (f"{seed} if dc_last is None else dc_last", seed)),
    )


def _gru() -> tuple[Bug, ...]:
    before = (
        ("dv = da_n * r", "dv = da_n"),
        ('da_n * cache["vs"][t] * r * (1 - r)', "dv @ W_hn * hs[t - 1] * r * (1 - r)"),
        ("+ dv @ W_hn", "+ dv @ W_hn * r"),
    )
    return (
        _bug("gru", "easy", "BPTT034", "as well", GATES, ("dh_next = dh[t] * z + da_r", "dh_next = da_r")),
        _bug("gru", "easy", "BPTT035", "not", GATES, ("(hs[t - 1] - n)", "(n - hs[t - 1])")),
        _bug("gru", "medium", "BPTT037", "as well", GATES, ("dv @ W_hn", "da_n @ W_hn")),
        _bug("gru", "medium", "BPTT040", "as well", GATES, ("z * (1 - z)\n", "r * (1 - r)\n")),
        _bug("gru", "hard", "BPTT036", "as well", GATES, *before),
    )


BUGS = (*_rnn(), *_rnn_padded(), *_lstm(), *_gru())
