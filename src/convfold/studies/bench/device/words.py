"""What the measurement of a device says in sentences: why depthwise is slower than its multiply-accumulates say."""

from __future__ import annotations

from convfold.studies.bench.device.study import FORMS, Comparison, Measured

__all__ = ["answer", "headline", "ratio", "shown"]

DENSE, POINT, DEPTHWISE, SEPARABLE = FORMS
_GIGA = 1e9


def shown(measured: Measured) -> Comparison:
    """The layer that the sentences are about: 64 channels at 56x56."""
    return next(each for each in measured.comparisons if (each.channels, each.size) == (64, 56))


def ratio(value: float) -> str:
    """A factor in two or three digits."""
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def headline(measured: Measured) -> str:
    """The finding in one sentence."""
    layer = shown(measured)
    return (
        f"A depthwise 3×3 over {layer.channels} channels at {layer.size}×{layer.size} has 1/{layer.channels} of the "
        f"dense one's multiply-accumulates and takes 1/{ratio(_gain(layer, DEPTHWISE))} of its time: "
        f"{ratio(layer.slower(DEPTHWISE))} times what its MACs say."
    )


def _gain(layer: Comparison, form: str) -> float:
    return layer.seconds(DENSE) / layer.seconds(form)


def answer(measured: Measured) -> list[str]:
    """Why, in sentences: the factor as a product of what the roofs take away and of what is lost below them."""
    device, layer = measured.device, shown(measured)
    roof, attained = device.roof(layer.intensity(DEPTHWISE)), layer.attained(DEPTHWISE)
    own = layer.attained(DENSE) / device.roofs.peak
    return [
        f"The dense 3×3 does {layer.intensity(DENSE):.0f} FLOPs for each byte it moves and the depthwise one "
        f"{layer.intensity(DEPTHWISE):.2f}: both read and write the same maps, but one uses a value for "
        f"{9 * layer.channels} multiply-accumulates and the other for 9. {_memory(measured, roof)}",
        f"{_below(roof, attained)} {_call(measured)}",
        f"Together: {ratio(device.roofs.peak / roof)} (memory) × {ratio(roof / attained)} (below the roof) × {own:.2f} "
        f"(the dense one's own share of the peak) = {ratio(layer.slower(DEPTHWISE))}. With the 1×1 that has to follow "
        f"it, the separable pair has 1/{ratio(layer.macs(DENSE) / layer.macs(SEPARABLE))} of the dense one's MACs and "
        f"takes 1/{ratio(_gain(layer, SEPARABLE))} of its time.",
    ]


def _memory(measured: Measured, roof: float) -> str:
    ridge, peak = measured.device.ridge, measured.device.roofs.peak
    if roof >= peak:
        return f"Memory is the limit here below {ridge:.1f} FLOPs per byte only: both stand under the same roof."
    return (
        f"Below {ridge:.1f} FLOPs per byte memory is the limit here, so that the roof over the depthwise one is "
        f"{roof / _GIGA:.0f} GFLOP/s instead of {peak / _GIGA:.0f}: a factor of {ratio(peak / roof)}."
    )


def _below(roof: float, attained: float) -> str:
    if attained > roof:
        return f"It attains {attained / _GIGA:.0f}, more than memory allows, since its maps stay in the cache."
    return f"It attains {attained / _GIGA:.0f} GFLOP/s of these, a further factor of {ratio(roof / attained)}."


def _call(measured: Measured) -> str:
    """What of the time is the call's, and how fast maps move in the rest of it."""
    device = measured.device
    (timed,) = shown(measured).forms[DEPTHWISE]
    call = device.laws["depthwise"].overhead
    if call >= timed.seconds:
        return f"By its law a call takes {call * 1e6:.0f} µs whatever the shape, which is all of its time."
    speed = timed.case.work.bytes / (timed.seconds - call)
    roofs = device.roofs
    return (
        f"By the fitted law {call * 1e6:.0f} of its {timed.seconds * 1e6:.0f} µs are the call's, whatever the shape; "
        f"in the rest its maps move at {speed / _GIGA:.0f} GB/s, where memory gives {roofs.bandwidth / _GIGA:.0f} and "
        f"a cache {roofs.cached / _GIGA:.0f}."
    )
