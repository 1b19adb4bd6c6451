"""What a block keeps for the way back."""

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from jax_interp.nn import attention
from jax_interp.nn.rotary import rotary_angles
from jax_interp.train.objective.forward import CUDNN_ATTENTION, ForwardInputs, forward
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.step import network_of
from tests.train.steps.test_state import CONFIG


@pytest.fixture
def traced_cudnn(monkeypatch):
    """cuDNN's attention can be traced, but not run, where there is no GPU."""
    monkeypatch.setattr(attention, "cudnn_available", lambda: True)
    monkeypatch.setattr(attention, "flash_available", lambda: False)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)


def gradient_of(keep):
    """The gradient of a forward by the network's parameters."""
    network = network_of(CONFIG, TrainSettings())
    angles = jnp.asarray(rotary_angles((3, 2, 3), 16, fps=24, ratio=(2.0, 1.0, 1.0), precision="float32"))[None]
    x, text, indicator = jnp.zeros((1, 3, 4, 6, 16)), jnp.zeros((1, 64, 8)), jnp.zeros((1, 3, 1, 1, 1))

    def loss(params):
        given = ForwardInputs(x, jnp.zeros(1), text, indicator, angles)
        return forward(network, params, given, dtype=jnp.bfloat16, keep=keep).sum()

    return jax.grad(loss), network.abstract


def traced(keep):
    """Its operations."""
    gradient, params = gradient_of(keep)
    return str(jax.make_jaxpr(gradient)(params))


def attentions(keep):
    """How often it asks for attention (to itself and to a text), and for the gradient of one."""
    text = traced(keep)
    return text.count(f"{CUDNN_ATTENTION}["), text.count("dot_product_attention_bwd_wrapper[")


@pytest.mark.usefixtures("traced_cudnn")
def test_kept_attention_is_not_computed_again():
    assert attentions("inputs") == (4, 2)  # each of the two forwards, and again on the way back
    assert attentions("attention") == (3, 2)  # that to the text again
    assert attentions("products") == (3, 2)


def test_kept_products_are_not_computed_again():
    linear_layers = 4 + 4 + 2 + 2 * 3  # self-attention, attention to the text, MLP, modulations
    again = traced("inputs").count("dot_general[") - traced("products").count("dot_general[")
    assert linear_layers - 3 <= again <= linear_layers  # some results are read by nothing on the way back
