/**
 * What a node says after a run is shown whole, and not its first two lines only.
 *
 * The box that ComfyUI's page puts below the settings is two lines high, whatever it says. A node grows for it and
 * never shrinks. On a page without such a box, or with one that sizes itself, nothing happens.
 */
import { app } from "../../../scripts/app.js";

const BOX = "$$node-text-preview";
const LINE = 16;
const FONT = "12px Inter, sans-serif";
const AROUND = { width: 54, height: 36 };
/** The box scrolls from there on. */
const HIGHEST = 220;

/** How high the box has to be in a node of this width; its lines break anywhere. */
function heightOf(text, width) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = FONT;
  const lines = text
    .split("\n")
    .map((line) => Math.max(1, Math.ceil(pen.measureText(line).width / (width - AROUND.width))));
  return Math.min(HIGHEST, AROUND.height + LINE * lines.reduce((sum, count) => sum + count, 0));
}

function showText(node) {
  const box = node.widgets?.find((widget) => widget?.name === BOX);
  if (!box?.options || !node.size || !node.setSize || !node.computeSize) return;
  const height = heightOf(String(box.value ?? ""), node.size[0]);
  box.options.getMinHeight = () => height;
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
}

app.registerExtension({
  name: "comfyuicascade.texts",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData?.name?.startsWith("Cascade") || !nodeType?.prototype) return;
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function () {
      const answer = executed?.apply(this, arguments);
      showText(this);
      return answer;
    };
  },
});
