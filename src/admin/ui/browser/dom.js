/** Puts data on the page as text, never as markup, and touches only what has changed. */

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {...(Node | string)} children
 */
export function element(tag, className = '', ...children) {
  const made = document.createElement(tag);
  if (className !== '') made.className = className;
  made.append(...children);
  return made;
}

/** What is selected stays selected, and nothing is announced twice. @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} className */
export function look(node, className) {
  if (node.getAttribute('class') !== className) node.setAttribute('class', className);
}

/**
 * Keeps the children of a node in step with a list: what stays is updated, not made anew.
 *
 * @template Item
 * @param {Element} parent
 * @param {(key: string) => { node: Element, update: (item: Item) => void }} create
 * @returns {(items: readonly (readonly [key: string, item: Item])[]) => void}
 */
export function listIn(parent, create) {
  /** @type {Map<string, ReturnType<typeof create>>} */
  const parts = new Map();
  return (items) => {
    const keys = new Set(items.map(([key]) => key));
    for (const [key, { node }] of parts) {
      if (keys.has(key)) continue;
      node.remove();
      parts.delete(key);
    }
    items.forEach(([key, item], at) => {
      const part = parts.get(key) ?? create(key);
      parts.set(key, part);
      part.update(item);
      if (parent.children[at] !== part.node) parent.insertBefore(part.node, parent.children[at] ?? null);
    });
  };
}

/**
 * A list of terms and what is to be said of each.
 *
 * @param {Element} dl
 * @returns {(facts: readonly (readonly [term: string, text: string, tone?: string])[]) => void}
 */
export function factsIn(dl) {
  /** @type {(items: readonly (readonly [string, readonly [string, string | undefined]])[]) => void} */
  const list = listIn(dl, (term) => {
    const value = element('dd');
    const node = element('div', '', element('dt', '', term), value);
    return {
      node,
      update: ([text, tone]) => {
        say(value, text);
        look(value, tone ?? '');
      },
    };
  });
  return (facts) => list(facts.map(([term, text, tone]) => [term, [text, tone]]));
}
