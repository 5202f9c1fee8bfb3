// What of a tree is drawn: all of it, as far as anybody can look at so much.

const MOST = 1200;
const WEAK = new Set(["pruned", "duplicate"]);

/**
 * Duplicates of one parent are one card. Of a tree that is too large to draw even so, leaves go, the oldest first: those that were pruned or
 * said before, then others; the winning path never does. `left`: how many steps are not drawn.
 */
export function thinned(run, path, unfolded) {
  const root = run.root;
  let over = fold(root, unfolded) - MOST;
  const gone = new Set();
  let left = 0;
  const items = over > 0 ? below(root) : [];
  for (const mayGo of [(node) => WEAK.has(node.state), () => true]) {
    for (const leaf of items.filter((item) => !item.remaining && !gone.has(item))) {
      // What a leaf leaves bare is older than all the other leaves.
      for (let item = leaf; over > 0 && item.node && !item.remaining && !path.has(item.node.key) && mayGo(item.node); item = item.above) {
        gone.add(item);
        item.above.remaining -= 1;
        over -= 1;
        left += 1 + (item.more ?? 0);
      }
    }
  }
  for (const item of [root, ...items]) item.children = item.children.filter((child) => !gone.has(child));
  return { root, left };
}

/** Leave one card for more than two duplicates of a parent, unless they were asked for; how many nodes remain. */
function fold(item, unfolded) {
  const isSame = (child) => child.node.state === "duplicate" && !child.children.length;
  const same = item.children.filter(isSame);
  if (same.length > 2 && !unfolded.has(item.node?.key ?? null)) {
    item.children = item.children.filter((child) => !isSame(child) || child === same[0]);
    same[0].more = same.length - 1;
  }
  return item.children.reduce((sum, child) => sum + fold(child, unfolded), item.node ? 1 : 0);
}

/** All items, the oldest first, each told what is `above` it and how many of its children are `remaining`. */
function below(root) {
  const found = [root];
  for (const item of found) {
    item.remaining = item.children.length;
    for (const child of item.children) found.push(Object.assign(child, { above: item }));
  }
  return found.slice(1).sort((a, b) => a.node.id - b.node.id);
}
