"""LightGCN (He et al. 2020, arXiv:2002.02126) on PyTorch Geometric's model, for the paper's table of baselines.

The only part of an evaluation that needs torch: it is imported when this baseline is asked for, and such an Evaluation
runs in the trainer image. Three layers of 64 dimensions as in that paper, trained with BPR on uniform negatives.
A user is a node of the graph, so the scores follow from all of the user's training interactions. A GPU is used where
the evaluator has one; MovieLens-100K takes minutes on two cores.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch_geometric.nn.models import LightGCN

DIMENSIONS = 64
LAYERS = 3
EPOCHS = 40
LEARNING_RATE = 0.01
L2 = 1e-4
_LEAST_BATCH = 2048
_BATCHES_AN_EPOCH = 64
"""More edges make larger batches, so that the number of optimizer steps stays the same and work grows linearly."""


@dataclass(frozen=True)
class Embeddings:
    """What was learned: a user's score of an item is the product of their rows."""

    users: NDArray[np.float32]
    """Shape (users, 64)."""
    items: NDArray[np.float32]
    """Shape (items, 64)."""


def learn(matrix: sparse.csr_array, *, seed: int, epochs: int = EPOCHS, still: Callable[[], None]) -> Embeddings:
    """Train on a 0/1 matrix of shape (users, items).

    `still` is called before every step, and raises what ends the training early.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    users, items = matrix.shape
    model = LightGCN(users + items, DIMENSIONS, LAYERS, normalize=False).to(device)
    graph = _propagation(matrix).to(device)
    pairs = matrix.tocoo()
    edges = torch.from_numpy(np.stack([pairs.row, pairs.col + users]).astype(np.int64)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    batch = max(_LEAST_BATCH, -(-edges.shape[1] // _BATCHES_AN_EPOCH))
    for _ in range(epochs):
        for chosen in torch.randperm(edges.shape[1], device=device).split(batch):
            still()
            optimizer.zero_grad()
            _loss(model, graph, edges[:, chosen], users, items).backward()
            optimizer.step()
    with torch.no_grad():
        final = model.get_embedding(graph).cpu().numpy()
    return Embeddings(final[:users], final[users:])


def _loss(model: LightGCN, graph: torch.Tensor, edges: torch.Tensor, users: int, items: int) -> torch.Tensor:
    """Return the BPR loss of a batch of (user, item) nodes, each against a random other item."""
    other = torch.randint(users, users + items, (edges.shape[1],), device=edges.device)
    nodes = model.get_embedding(graph)
    people = nodes[edges[0]]
    taken, not_taken = (people * nodes[edges[1]]).sum(dim=1), (people * nodes[other]).sum(dim=1)
    touched = torch.cat([edges.flatten(), other]).unique()
    loss: torch.Tensor = model.recommendation_loss(taken, not_taken, touched, lambda_reg=L2)
    return loss


def _propagation(matrix: sparse.csr_array) -> torch.Tensor:
    """Return D^-1/2 A D^-1/2 of the bipartite graph as a sparse tensor of shape (nodes, nodes)."""
    both = sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
    degrees: NDArray[np.float64] = np.asarray(both.sum(axis=1), dtype=np.float64).ravel()
    scale = sparse.diags_array(np.divide(1.0, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0))
    scaled = sparse.csr_array(scale @ both @ scale)
    parts = (scaled.indptr.astype(np.int64), scaled.indices.astype(np.int64), scaled.data.astype(np.float32))
    return torch.sparse_csr_tensor(
        *(torch.from_numpy(part) for part in parts), size=scaled.shape, check_invariants=False
    )
