r"""The cheapest one-to-one assignment, by shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987)."""
import math
from collections.abc import Sequence


def assign(cost: Sequence[Sequence[float]]) -> list[int]:
    r"""The column of each row of a square matrix such that the costs add up to the least, in O(n³).

    Rows enter one by one. With prices :math:`u` of rows and :math:`v` of columns such that no reduced cost
    :math:`c_{ij} - u_i - v_j` is negative and those of the pairs so far are zero, the shortest path of reduced costs
    from the new row to a free column shows how to rearrange the pairs, and how to change the prices.

    Raises:
        ValueError: If the matrix is not square or not finite.
    """
    n = len(cost)
    if any(len(row) != n for row in cost) or not all(math.isfinite(c) for row in cost for c in row):
        raise ValueError(f"'cost' must be a square matrix of finite numbers (got {n} rows of "
                         f'{sorted({len(row) for row in cost})} numbers)')
    u, v = [0.0] * n, [0.0] * n
    owner = [-1] * n  # the row that has each column
    for new in range(n):
        distance, before, done = [math.inf] * n, [-1] * n, [False] * n
        row, reached, column = new, 0.0, -1
        while True:
            for j in range(n):
                length = reached + cost[row][j] - u[row] - v[j]
                if not done[j] and length < distance[j]:
                    distance[j], before[j] = length, row
            column = min((j for j in range(n) if not done[j]), key=distance.__getitem__)
            reached = distance[column]
            if owner[column] < 0:
                break
            done[column], row = True, owner[column]
        u[new] += reached
        for j in range(n):
            if done[j]:
                u[owner[j]] += reached - distance[j]
                v[j] -= reached - distance[j]
        while True:  # back along the path, each row takes the column that it leads to
            row = before[column]
            owner[column], column = row, next((j for j in range(n) if owner[j] == row and j != column), -1)
            if row == new:
                break
    column_of = [0] * n
    for j, row in enumerate(owner):
        column_of[row] = j
    return column_of
