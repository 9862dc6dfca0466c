"""Writes a trained network as a weights file for sound/src/model.rs."""

import argparse
import pathlib

import numpy as np
import torch

import network

MAGIC = b"MEOWNET1"


def folded(layer):
    """Returns weights (output, time, band, channel) and biases of a convolution, with its batch norm folded in."""
    scale = layer.norm.weight / torch.sqrt(layer.norm.running_var + layer.norm.eps)
    weights = layer.conv.weight * scale[:, None, None, None]
    return weights.permute(0, 2, 3, 1).flatten(1), layer.norm.bias - layer.norm.running_mean * scale


@torch.no_grad()
def to_bytes(net):
    """Returns the weights file: 16-bit weights and 32-bit biases, layer by layer, then those of the linear layer."""
    rows = list(network.MIMICKED.values())
    heads = (torch.cat([net.cat.weight, net.mimic.weight[rows]]), torch.cat([net.cat.bias, net.mimic.bias[rows]]))
    out = MAGIC
    for weights, bias in [folded(layer) for layer in net.layers] + [heads]:
        half = weights.numpy().astype("<f2")
        assert np.isfinite(half).all(), "a weight does not fit 16 bits"
        out += half.tobytes() + bias.numpy().astype("<f4").tobytes()
    return out


def from_bytes(data):
    """Reads a weights file back: a network with batch norms that change nothing, and zeros for the classes that it leaves out."""
    if not data.startswith(MAGIC):
        raise ValueError("not a weights file of this version")
    net, at = network.Network(), len(MAGIC)

    def take(outputs, inputs):
        nonlocal at
        weights = np.frombuffer(data, "<f2", outputs * inputs, at).astype(np.float32).reshape(outputs, inputs)
        bias = np.frombuffer(data, "<f4", outputs, at + weights.size * 2).copy()
        at += weights.size * 2 + bias.size * 4
        return torch.from_numpy(weights), torch.from_numpy(bias)

    with torch.no_grad():
        for layer in net.layers:
            outputs, channels, time, bands = layer.conv.weight.shape
            weights, bias = take(outputs, channels * time * bands)
            layer.conv.weight.copy_(weights.reshape(outputs, time, bands, channels).permute(0, 3, 1, 2))
            layer.norm.bias.copy_(bias)
            layer.norm.running_var.fill_(1 - layer.norm.eps)
        rows = list(network.MIMICKED.values())
        weights, bias = take(1 + len(rows), network.EMBEDDING)
        net.cat.weight.copy_(weights[:1])
        net.cat.bias.copy_(bias[:1])
        net.mimic.weight.zero_()
        net.mimic.bias.zero_()
        net.mimic.weight[rows], net.mimic.bias[rows] = weights[1:], bias[1:]
    if at != len(data):
        raise ValueError("the weights file has another length than the network needs")
    return net


def load(path):
    """Reads a network that train.py saved."""
    net = network.Network()
    net.load_state_dict(torch.load(path))
    return net.eval()


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=here / "../sound/weights/model.bin")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_bytes(to_bytes(load(arguments.trained)))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
