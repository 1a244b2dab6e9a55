"""Where everything sits in a token sequence. No other file does arithmetic on positions or vocabulary ids."""

from __future__ import annotations

import dataclasses
from typing import overload

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array

from tokenizer.types import AnyArray, SameArray

NO_LOSS = -100
"""The label of a token that no loss is taken on."""


@dataclasses.dataclass(frozen=True)
class SequenceLayout:
    """Positions and vocabulary of a segment's tokens (paper section 3.1, equation 6).

    z1 [S1] z2 ... zC [S2] z(C+1) [S2] z(C+2) ...: [S1] opens a context frame after the first, [S2] a future frame; the
    first context frame has no slot token. The vocabulary holds the context codes, the future codes, [S1] and [S2].

    Segments are given in the order of time everywhere: T frames, `actions[t]` leading from frame t to frame t + 1. With
    the goal first, a sequence holds the last of them before the others: (T - 1, 0, 1, ..., T - 2).
    """

    context_frames: int  # C
    tokens_per_context: int  # N
    tokens_per_future: int  # n
    context_codes: int
    future_codes: int
    goal_first: bool = False  # goal-conditioned: the segment's last frame is the first of the context
    resolution: int = 64  # pixels per side of a frame
    future_groups: int = 1  # tokens of a future frame's patch, which follow each other
    still_code: bool = False  # the last of the future codes says that nothing moves in the patch

    # --- vocabulary ---------------------------------------------------------------------------------------------

    @property
    def future_ids(self) -> slice:
        """The ids of the future codes: code k is id `future_ids.start + k`."""
        return slice(self.context_codes, self.context_codes + self.future_codes)

    @property
    def context_slot(self) -> int:
        """[S1]"""
        return self.context_codes + self.future_codes

    @property
    def future_slot(self) -> int:
        """[S2]"""
        return self.context_slot + 1

    @property
    def vocabulary(self) -> int:
        return self.future_slot + 1

    # --- positions ----------------------------------------------------------------------------------------------

    @property
    def context_length(self) -> int:
        """Tokens of all context frames; also the position of the first [S2]."""
        return (self.tokens_per_context + 1) * self.context_frames - 1

    @property
    def frame_length(self) -> int:
        """Tokens of a future frame, its slot included."""
        return self.tokens_per_future + 1

    def length(self, future_frames: int) -> int:
        """Tokens L of a segment with F future frames: (N + 1) C + (n + 1) F - 1."""
        return self.context_length + self.frame_length * future_frames

    def future_frames(self, length: int) -> int:
        """F of a sequence of L tokens. Raises ValueError where L is not a whole number of frames."""
        frames, rest = divmod(length - self.context_length, self.frame_length)
        if frames < 0 or rest:
            raise ValueError(
                f"{length} tokens are no whole segment: {self.context_frames} context frames take "
                f"{self.context_length} and each future frame {self.frame_length} more"
            )
        return frames

    def longest_horizon(self, max_positions: int) -> int:
        """The most future frames F that a transformer of so many positions has room for."""
        return max((max_positions - self.context_length) // self.frame_length, 0)

    def check_horizon(self, future_frames: int, max_positions: int) -> None:
        """Raise ValueError where F future frames do not fit, with the longest that does."""
        if self.length(future_frames) > max_positions:
            raise ValueError(
                f"a horizon of {future_frames} frames takes {self.length(future_frames)} positions and the transformer "
                f"has {max_positions}: the longest horizon that fits is {self.longest_horizon(max_positions)}"
            )

    def slot_positions(self, future_frames: int) -> np.ndarray:
        """Positions [F] of the slots that open the future frames; an action is added there."""
        return self.context_length + self.frame_length * np.arange(future_frames)

    def reward_positions(self, future_frames: int) -> np.ndarray:
        """Positions [F] of the last token of each future frame; the reward is read there."""
        return self.slot_positions(future_frames) + self.tokens_per_future

    def future_positions(self, future_frames: int) -> np.ndarray:
        """Positions [F, n] of the future frames' tokens."""
        return self.slot_positions(future_frames)[:, None] + 1 + np.arange(self.tokens_per_future)

    def context_positions(self) -> np.ndarray:
        """Positions [C, N] of the context frames' tokens."""
        starts = (self.tokens_per_context + 1) * np.arange(self.context_frames)
        return starts[:, None] + np.arange(self.tokens_per_context)

    def context_slot_positions(self) -> np.ndarray:
        """Positions [C - 1] of the slots that open the second context frame and later ones."""
        return self.context_positions()[1:, 0] - 1

    @property
    def context_patch(self) -> int:
        """Pixels per side of the patch under a context token: the tokens of a frame lie row by row."""
        return self.resolution // round(self.tokens_per_context**0.5)

    @property
    def patches(self) -> int:
        """Patches of a future frame; each has `future_groups` tokens."""
        return self.tokens_per_future // self.future_groups

    @property
    def future_patch(self) -> int:
        """Pixels per side of the patch under a future token."""
        return self.resolution // round(self.patches**0.5)

    @property
    def places(self) -> int:
        """How many places there are: each position of the context, each of a future frame, its slot included."""
        return self.context_length + self.frame_length

    def place(self, positions: Array) -> Array:
        """The place in [0, places) of each position: the same in every future frame."""
        beyond = positions - self.context_length
        return jnp.where(beyond < 0, positions, self.context_length + beyond % self.frame_length)

    # --- frames, actions and rewards of a segment, given in the order of time -------------------------------------

    @overload
    def arrange(self, frames_bthwc: Array) -> Array: ...

    @overload
    def arrange(self, frames_bthwc: AnyArray) -> AnyArray: ...

    def arrange(self, frames_bthwc: AnyArray) -> AnyArray:
        """Frames [B, T, ...] of a segment in the order of the sequence: as they are, or the last one first.

        The tokenizer is trained on frames in this order; everything in `world_model` puts them into it by itself.
        """
        return jnp.roll(frames_bthwc, 1, axis=1) if self.goal_first else frames_bthwc

    def in_time(self, frames_bthwc: Array) -> Array:
        """The inverse of `arrange`: the frames [B, T, ...] of a sequence in the order of time."""
        return jnp.roll(frames_bthwc, -1, axis=1) if self.goal_first else frames_bthwc

    @property
    def frames_before(self) -> int:
        """Context frames that precede the future in time: C, or C - 1 and the goal, which follows it."""
        return self.context_frames - int(self.goal_first)

    def future_actions(self, actions_bta: SameArray, future_frames: int) -> SameArray:
        """The actions [B, F, A] that lead to the future frames: frame k of them takes action C - 1 + k.

        actions_bta: [B, T, A], counted over the whole segment; T at least C - 1 + F, the rest is unused. With the goal
        first, frame k is the segment's frame C - 1 + k and takes action C - 2 + k.
        """
        first = self.frames_before - 1
        chex.assert_rank(actions_bta, 3)
        if actions_bta.shape[1] < first + future_frames:
            raise ValueError(
                f"{future_frames} future frames after {self.context_frames} context frames need "
                f"{first + future_frames} actions, found {actions_bta.shape[1]}"
            )
        return actions_bta[:, first : first + future_frames]

    def future_rewards(self, rewards_bt: SameArray) -> SameArray:
        """The rewards [B, F] of arriving at the future frames, from those of arriving at all frames [B, T]."""
        future_frames = rewards_bt.shape[1] - self.context_frames
        return rewards_bt[:, self.frames_before : self.frames_before + future_frames]

    # --- sequences ----------------------------------------------------------------------------------------------

    def context_tokens(self, codes_bcn: Array) -> Array:
        """Everything before the first [S2]: int32 [B, (N + 1) C - 1], from context codes [B, C, N]."""
        chex.assert_shape(codes_bcn, (None, self.context_frames, self.tokens_per_context))
        opened = jnp.pad(codes_bcn, ((0, 0), (0, 0), (1, 0)), constant_values=self.context_slot)
        return opened.reshape(len(codes_bcn), -1)[:, 1:].astype(jnp.int32)

    def future_tokens(self, codes_bfn: Array) -> Array:
        """From the first [S2] on: int32 [B, (n + 1) F], from future codes [B, F, n]."""
        chex.assert_shape(codes_bfn, (None, None, self.tokens_per_future))
        ids_bfn = codes_bfn + self.future_ids.start
        opened = jnp.pad(ids_bfn, ((0, 0), (0, 0), (1, 0)), constant_values=self.future_slot)
        return opened.reshape(len(codes_bfn), -1).astype(jnp.int32)

    def join(self, context_codes_bcn: Array, future_codes_bfn: Array) -> Array:
        """The whole sequence, int32 [B, L]."""
        return jnp.concatenate([self.context_tokens(context_codes_bcn), self.future_tokens(future_codes_bfn)], axis=1)

    def split(self, tokens_bl: Array) -> tuple[Array, Array]:
        """The inverse of `join`: context codes [B, C, N] and future codes [B, F, n]."""
        future_frames = self.future_frames(tokens_bl.shape[1])
        future_codes = tokens_bl[:, self.future_positions(future_frames)] - self.future_ids.start
        return tokens_bl[:, self.context_positions()], future_codes

    def hide_frames(self, tokens_bl: Array, hidden_bf: Array) -> Array:
        """The same, with all codes of the hidden future frames replaced by [S1], which otherwise never occurs there."""
        positions = self.future_positions(hidden_bf.shape[1])
        hidden_bfn = jnp.where(hidden_bf[..., None], self.context_slot, tokens_bl[:, positions])
        return tokens_bl.at[:, positions].set(hidden_bfn)

    def labels(self, tokens_bl: Array) -> Array:
        """The token itself after the first [S2], NO_LOSS up to it; int32 [B, L], not shifted."""
        self.future_frames(tokens_bl.shape[1])
        learned = jnp.arange(tokens_bl.shape[1]) > self.context_length
        return jnp.where(learned, tokens_bl, NO_LOSS)
