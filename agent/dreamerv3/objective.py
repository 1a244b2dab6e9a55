"""All losses of one batch together: the world model on what was seen, then the actor and critic on what is imagined."""

from __future__ import annotations

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array

from agent.dreamerv3 import latents, losses, rssm
from agent.dreamerv3.config import DreamerConfig
from agent.dreamerv3.losses import Losses
from agent.dreamerv3.networks import DreamerParameters, make_networks
from agent.dreamerv3.returns import ReturnRange, lambda_returns
from agent.dreamerv3.rssm import Observed, State
from world_model import twohot


class SequenceBatch(NamedTuple):
    """Sequences of T agent steps. A step is a frame with what led to it."""

    frames_bthwc: Array  # uint8
    actions_bta: Array  # float32: led to the frame; unused where an episode starts
    rewards_bt: Array  # float32: of arriving at the frame
    first_bt: Array  # bool: an episode starts
    last_bt: Array  # bool: an episode ends, by time or for good
    terminal_bt: Array  # bool: it ends for good; no value follows
    start: State  # [B], as an earlier update left it in the replay (context 1), or `rssm.initial`


class Outcome(NamedTuple):
    states: State  # [B, T], for the replay
    returns: ReturnRange
    metrics: dict[str, Array]


def objective(
    config: DreamerConfig,
    parameters: DreamerParameters,
    slow_critic: optax.Params,
    range_: ReturnRange,
    batch: SequenceBatch,
    key: Array,
) -> tuple[Array, Outcome]:
    """The weighted sum of all losses, and what else an update leaves behind."""
    observe_key, imagine_key = jax.random.split(key)
    observed = _observe(config, parameters, batch, observe_key)
    model = _model_losses(config, parameters, observed, batch)
    behaviour, returns_bt, range_, metrics = _behaviour_losses(
        config, parameters, slow_critic, range_, observed.states, imagine_key
    )
    replayed = _replay_value_loss(config, parameters, slow_critic, observed.states, returns_bt, batch)
    means = Losses(*(loss.mean() for loss in (*model, *behaviour, replayed)))
    total = cast(Array, sum(weight * mean for weight, mean in zip(config.weights, means, strict=True)))
    metrics |= {f"{name}_loss": mean for name, mean in means._asdict().items()}
    metrics["posterior_entropy"] = latents.entropy(observed.posterior_logits, config.model.unimix).mean()
    return total, Outcome(jax.lax.stop_gradient(observed.states), range_, metrics)


def _observe(config: DreamerConfig, parameters: DreamerParameters, batch: SequenceBatch, key: Array) -> Observed:
    frames = batch.frames_bthwc
    tokens = make_networks(config.model).encoder.apply(parameters.encoder, frames.reshape(-1, *frames.shape[2:]))
    tokens_bte = tokens.reshape(*frames.shape[:2], -1)
    return rssm.observe(config.model, parameters, batch.start, tokens_bte, batch.actions_bta, batch.first_bt, key)


def _model_losses(
    config: DreamerConfig, parameters: DreamerParameters, observed: Observed, batch: SequenceBatch
) -> tuple[Array, Array, Array, Array, Array]:
    """Reconstruction, reward, continuation, dynamics, representation: [B, T] each."""
    networks, states = make_networks(config.model), observed.states
    features = rssm.features(states)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), states)
    pictures = networks.decoder.apply(parameters.decoder, *flat).reshape(batch.frames_bthwc.shape)
    rewards = networks.reward.apply(parameters.reward, features)
    goes_on = networks.continuation.apply(parameters.continuation, features)
    prior = networks.prior.apply(parameters.prior, states.deter)
    return (
        losses.reconstruction(pictures, batch.frames_bthwc),
        twohot.cross_entropy(rewards, batch.rewards_bt),
        losses.binary(goes_on, (1 - batch.terminal_bt) * config.discount),
        *losses.divergences(observed.posterior_logits, prior, config.model.unimix, config.free_nats),
    )


def _behaviour_losses(
    config: DreamerConfig,
    parameters: DreamerParameters,
    slow_critic: optax.Params,
    range_: ReturnRange,
    seen: State,
    key: Array,
) -> tuple[tuple[Array, Array], Array, ReturnRange, dict[str, Array]]:
    """Policy and value losses [B T, H], imagined returns [B, T] of the states seen, the new range, metrics.

    Imagination starts from every state; the discount is inside the predicted continuation.
    """
    networks, frozen = make_networks(config.model), jax.lax.stop_gradient(parameters)
    features, actions = _imagined_features(config, frozen, jax.lax.stop_gradient(seen), key)
    values_logits = networks.critic.apply(parameters.critic, features)
    slow_logits = networks.critic.apply(slow_critic, features)
    distribution = networks.actor.apply(parameters.actor, features)
    rewards = twohot.decode(networks.reward.apply(frozen.reward, features))
    goes_on = jax.nn.sigmoid(networks.continuation.apply(frozen.continuation, features))
    values = twohot.decode(jax.lax.stop_gradient(values_logits))
    weights = jnp.cumprod(goes_on, 1)[:, :-1]

    returns = lambda_returns(rewards, goes_on, jnp.zeros_like(rewards), values, config.lambda_)
    range_ = range_.updated(returns, config.return_percentiles, config.return_rate)
    advantages = (returns - values[:, :-1]) / range_.scale(config.return_limit)
    acting, taken = jax.tree.map(lambda x: x[:, :-1], (distribution, actions))
    policy = losses.policy(acting, taken, advantages, weights, config.entropy)
    value = losses.value(values_logits[:, :-1], slow_logits[:, :-1], returns, weights, config.slow_critic_weight)
    metrics = {
        "imagined_reward": rewards.mean(),
        "imagined_return": returns.mean(),
        "imagined_continuation": goes_on.mean(),
        "value": values.mean(),
        "advantage_size": jnp.abs(advantages).mean(),
        "action_entropy": distribution.entropy().mean(),
        "return_scale": range_.scale(config.return_limit),
    }
    return (policy, value), returns[:, 0].reshape(seen.deter.shape[:2]), range_, metrics


def _imagined_features(
    config: DreamerConfig, parameters: DreamerParameters, seen: State, key: Array
) -> tuple[Array, Array]:
    """Features [B T, H + 1, F] and the actions [B T, H + 1, A] taken in them."""
    networks = make_networks(config.model)
    imagine_key, last_key = jax.random.split(key)

    def policy(state: State, key: Array) -> Array:
        return networks.actor.apply(parameters.actor, rssm.features(state)).sample(key)

    start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    imagined = rssm.imagine(config.model, parameters, start, policy, config.imagination, imagine_key)
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[:, None], rest], 1), start, imagined.states)
    last = policy(jax.tree.map(lambda x: x[:, -1], states), last_key)
    actions = jnp.concatenate([imagined.actions_bha, last[:, None]], 1)
    return rssm.features(states), actions


def _replay_value_loss(
    config: DreamerConfig,
    parameters: DreamerParameters,
    slow_critic: optax.Params,
    seen: State,
    returns_bt: Array,
    batch: SequenceBatch,
) -> Array:
    """The critic's loss [B, T - 1] along the replayed rewards, bootstrapped from imagined returns.

    It shapes the features, too.
    """
    networks, features = make_networks(config.model), rssm.features(seen)
    logits = networks.critic.apply(parameters.critic, features)[:, :-1]
    slow_logits = networks.critic.apply(slow_critic, features)[:, :-1]
    cut = batch.last_bt.astype(jnp.float32)
    goes_on = (1 - batch.terminal_bt) * config.discount
    returns = lambda_returns(batch.rewards_bt, goes_on, cut, returns_bt, config.lambda_)
    return losses.value(logits, slow_logits, returns, 1 - cut[:, :-1], config.slow_critic_weight)
