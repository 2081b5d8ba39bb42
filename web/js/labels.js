/**
 * Names that ComfyUI's page would cut or leave in English are shown whole and in the person's language.
 *
 * The page cuts the title of a node that has sockets and no settings, and fills an empty box of several lines with
 * the input's id. Where a page does neither nothing happens, but for a node a little wider than it need be.
 */
import { app } from "../../../scripts/app.js";

/** What the page leaves free beside a title, more than it reckons with when it sizes a node. */
const BESIDE_TITLE = 24;

/** Room for the whole title; settings make a node wide enough. */
function showTitle(node) {
  if (node.widgets?.length || !node.size || !node.setSize) return;
  node.setSize([node.size[0] + BESIDE_TITLE, node.size[1]]);
}

/** The name of an empty box where its text will be, and for screen readers. */
function nameBoxes(node) {
  for (const widget of node.widgets ?? []) {
    if (!widget?.label || widget.element?.placeholder !== widget.name) continue;
    widget.element.placeholder = widget.label;
    widget.element.ariaLabel = widget.label;
  }
}

app.registerExtension({
  name: "comfyuicascade.labels",

  nodeCreated(node) {
    if (!node?.constructor?.comfyClass?.startsWith("Cascade")) return;
    showTitle(node);
    nameBoxes(node);
  },
});
