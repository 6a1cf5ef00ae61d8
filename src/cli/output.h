/* -o json|yaml|name: what a verb shows, for programs. A verb makes its answer as one JSON document; a table and the names
 * are its own affair. */
#ifndef KNARR_CLI_OUTPUT_H
#define KNARR_CLI_OUTPUT_H

#include "cli/cli.h"

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_NAME };

/* `text` NULL: the default. ERR_INVALID names what there is. */
int output_parse(const char *text, enum output otherwise, enum output *out, struct err *e);
/* On stdout, indented; OUTPUT_YAML or OUTPUT_JSON. */
int output_document(enum output how, struct str json, struct err *e);

/* `knarr image ls -o`; not for a table. */
int image_list_print(struct cli *cli, enum output how, struct err *e);

#define OUTPUT_OPTION(out) { OPT_STR, 'o', "output", out, "FORMAT", "json, yaml or name" }

#endif
