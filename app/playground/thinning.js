// What of a tree is drawn: all of it, as far as anybody can look at so much.

const MOST = 1200;

/** Duplicates of one parent are one card; of a tree that is too large to draw even so, what was pruned goes first. */
export function thinned(run, path, unfolded) {
  const root = run.root;
  let left = fold(root, unfolded) - MOST;
  if (left <= 0) return { root, left: 0 };
  const total = left;
  const prune = (item) => {
    item.children = item.children.filter((child) => {
      prune(child);
      const goes = left > 0 && !child.children.length && !path.has(child.node.id);
      if (goes) left -= 1;
      return !goes;
    });
  };
  prune(root);
  return { root, left: total - Math.max(left, 0) };
}

/** Leave one card for more than two duplicates of a parent, unless they were asked for; how many nodes remain. */
function fold(item, unfolded) {
  const isSame = (child) => child.node.state === "duplicate" && !child.children.length;
  const same = item.children.filter(isSame);
  if (same.length > 2 && !unfolded.has(item.node?.id ?? null)) {
    item.children = item.children.filter((child) => !isSame(child) || child === same[0]);
    same[0].more = same.length - 1;
  }
  return item.children.reduce((sum, child) => sum + fold(child, unfolded), item.node ? 1 : 0);
}
