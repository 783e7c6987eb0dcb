/** Writes data to the page as text, never as markup, and changes only nodes whose text has changed. */

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

/** Keeps a selection, and lets a screen reader announce a text once. @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} className */
export function look(node, className) {
  if (node.getAttribute('class') !== className) node.setAttribute('class', className);
}

/**
 * Keeps the children of a node equal to a list. Nodes of items that stay are updated, not replaced.
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
 * A description list: terms, and the text of each.
 *
 * @param {Element} dl
 * @returns {(terms: readonly (readonly [term: string, text: string, tone?: string])[]) => void}
 */
export function termsIn(dl) {
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
  return (terms) => list(terms.map(([term, text, tone]) => [term, [text, tone]]));
}
