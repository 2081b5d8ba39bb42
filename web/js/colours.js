/**
 * New nodes of the pack get the colour of the stage that they serve, the one that the shipped workflows use.
 *
 * A colour is only a start: what a person picks stays, "no color" too, and a node from a workflow keeps what
 * it was saved with. On a page without these hooks nothing happens, and the nodes keep the theme's colour.
 */
import { app } from "../../../scripts/app.js";

/** Dark enough for ComfyUI's grey titles and labels, and light enough once its light theme has lightened them. */
const COLOURS = {
  A: { color: "#3c2f1c", bgcolor: "#4c3c23" },
  B: { color: "#1f362a", bgcolor: "#264535" },
  C: { color: "#203151", bgcolor: "#2b3e65" },
  conditioning: { color: "#3a2a4a", bgcolor: "#4a365e" },
  utility: { color: "#273337", bgcolor: "#324147" },
};

/**
 * Nodes that work for one stage or for conditioning and do not say so at the end of their ids. By id alone:
 * names and categories come translated.
 */
const SERVES = {
  CascadeTileDecoder: "B",
  CascadeSampler: "C",
  CascadePreviewLatent: "C",
  CascadeGuideLargeForms: "C",
  CascadeReuseBlocks: "C",
  CascadeDownsampleKeys: "C",
  CascadeLoadImageAdapter: "C",
  CascadeApplyImageAdapter: "C",
  CascadeLoadControlNet: "C",
  CascadeLoadTextEncoder: "conditioning",
  CascadeLoadImageEncoder: "conditioning",
  CascadeApplyControlNet: "conditioning",
  CascadeDecoderConditioning: "conditioning",
  CascadeImagePrompt: "conditioning",
};

/** What a node serves: a stage, conditioning, or all of them. */
function served(id) {
  return SERVES[id] ?? /Stage([ABC])$/.exec(id)?.[1] ?? "utility";
}

/** A workflow that says nothing of a node's colour means the theme's. */
function keepWhatWasSaved(nodeType) {
  const configured = nodeType.prototype.onConfigure;
  nodeType.prototype.onConfigure = function (saved) {
    for (const name of ["color", "bgcolor"]) if (!saved?.[name]) this[name] = undefined;
    return configured?.apply(this, arguments);
  };
}

app.registerExtension({
  name: "comfyuicascade.colours",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData?.name?.startsWith("Cascade") || !nodeType?.prototype) return;
    nodeType.cascade = served(nodeData.name);
    keepWhatWasSaved(nodeType);
  },

  nodeCreated(node) {
    const colours = COLOURS[node?.constructor?.cascade];
    if (colours && !node.color && !node.bgcolor) Object.assign(node, colours);
  },
});
