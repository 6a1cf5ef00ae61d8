/* YAML as a tree of struct json, so that a document is read by a table of its fields as JSON is (base/json.h), with the
 * file's lines in its errors. What Kubernetes' tools write: one document, keys that are text, no anchors and aliases
 * (they could grow without bound), no duplicate keys, 64 levels at most. Plain words are typed as they do it: null and ~,
 * true and false, whole numbers (also 0x, 0o, 0b and octal with a leading 0; they become decimal); all else is text.
 * Everything lives in the arena. Pure. */
#ifndef KNARR_SPEC_YAML_H
#define KNARR_SPEC_YAML_H

#include "base/json.h"

/* ERR_INVALID: "line N: …". An empty document is JSON's null. */
int yaml_parse(struct arena *a, struct str text, struct json **out, struct err *e);

#endif
