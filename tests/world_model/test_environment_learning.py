"""A small PPO (Schulman et al., 2017) that knows nothing but gymnasium's interface learns inside the model."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from world_model import ImaginedVectorEnv

DISCOUNT, TRACE, CLIP, EPOCHS, MINIBATCHES = 0.95, 0.95, 0.2, 4, 4


class Batch(NamedTuple):
    observations: np.ndarray  # uint8 [..., H, W, 3]
    actions: np.ndarray  # float32 [..., A]
    log_probabilities: np.ndarray  # float32 [...]
    values: np.ndarray
    advantages: np.ndarray


def networks(action_size: int) -> hk.Transformed:
    """Mean and log std [A] of a Gaussian policy, and the value."""

    def apply(frames_bhwc):
        features = hk.nets.MLP([32], activate_final=True, activation=jnp.tanh)(hk.Flatten()(frames_bhwc / 255 - 0.5))
        log_std = hk.get_parameter("log_std", [action_size], init=hk.initializers.Constant(-0.5))
        return hk.Linear(action_size)(features), log_std, hk.Linear(1)(features)[:, 0]

    return hk.without_apply_rng(hk.transform(apply))


def log_probability(mean, log_std, actions):
    return jnp.sum(-0.5 * jnp.square((actions - mean) / jnp.exp(log_std)) - log_std, axis=-1)


class PPO:
    """Collects with a same-step vector environment; bootstraps from the last frame of a truncated episode."""

    def __init__(self, env: VectorEnv, seed: int):
        self.env, self.rng = env, np.random.default_rng(seed)
        net = networks(env.single_action_space.shape[0])
        self.observations, _ = env.reset(seed=seed)
        self.parameters = net.init(jax.random.key(seed), self.observations)
        optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3))
        self.optimizer = optimizer.init(self.parameters)
        self.predict = jax.jit(net.apply)

        def loss(parameters, batch: Batch):
            mean, log_std, values = net.apply(parameters, batch.observations)
            ratio = jnp.exp(log_probability(mean, log_std, batch.actions) - batch.log_probabilities)
            scaled = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
            gain = jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled)
            return -gain.mean() + 0.5 * jnp.square(values - batch.values - batch.advantages).mean()

        @jax.jit
        def update(parameters, state, batch: Batch):
            changes, state = optimizer.update(jax.grad(loss)(parameters, batch), state)
            return optax.apply_updates(parameters, changes), state

        self.update = update

    def collect(self, steps: int) -> tuple[Batch, float]:
        """Steps of all episodes [steps, num_envs], and their mean reward."""
        rows, rewards, ends, nexts = [], [], [], []
        for _ in range(steps):
            mean, log_std, values = map(np.asarray, self.predict(self.parameters, self.observations))
            actions = (mean + np.exp(log_std) * self.rng.normal(size=mean.shape)).astype(np.float32)
            rows.append((self.observations, actions, np.asarray(log_probability(mean, log_std, actions)), values))
            self.observations, reward, terminations, truncations, infos = self.env.step(actions)
            assert not terminations.any()
            after = np.stack(infos["final_obs"]) if truncations.any() else self.observations
            rewards.append(reward)
            ends.append(truncations)
            nexts.append(np.asarray(self.predict(self.parameters, after)[2]))
        observations, actions, log_probabilities, values = map(np.stack, zip(*rows, strict=True))
        advantages, trace = np.zeros_like(values), 0.0
        for t in reversed(range(steps)):
            surprise = rewards[t] + DISCOUNT * nexts[t] - values[t]
            trace = surprise + DISCOUNT * TRACE * ~ends[t] * trace
            advantages[t] = trace
        return Batch(observations, actions, log_probabilities, values, advantages), float(np.mean(rewards))

    def learn(self, batch: Batch) -> None:
        flat = Batch(*(x.reshape(-1, *x.shape[2:]) for x in batch))
        for _ in range(EPOCHS):
            for chosen in np.split(self.rng.permutation(len(flat.values)), MINIBATCHES):
                part = Batch(*(x[chosen] for x in flat))
                self.parameters, self.optimizer = self.update(self.parameters, self.optimizer, part)


@pytest.mark.slow
def test_a_ppo_learns_in_imagination(model):
    """Without sampled tokens, since the rewards of a random model are mostly noise otherwise."""
    contexts = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), np.uint8)
    env = ImaginedVectorEnv(
        model, contexts, horizon=4, num_envs=16, temperature=0.0, autoreset_mode=AutoresetMode.SAME_STEP
    )
    ppo, rewards = PPO(env, seed=0), []
    for _ in range(40):
        batch, reward = ppo.collect(8)
        ppo.learn(batch)
        rewards.append(reward)
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 1
