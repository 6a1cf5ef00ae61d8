/* What knarr-unpack tells knarrd: one JSON object on its result pipe, written at its end
 * (docs/inside/unpack.md). */
#ifndef KNARR_IMAGE_UNPACK_REPORT_H
#define KNARR_IMAGE_UNPACK_REPORT_H

#include "base/json.h"
#include "image/unpack.h"

enum { UNPACK_REPORT_MAX = 16 * 1024 * 1024,
       UNPACK_FD_DEST = 3, UNPACK_FD_RESULT = 4 }; /* its fds; the layer's bytes come on 0 */

struct unpack_report {
	struct unpack_result result;
	uint32_t error_kind; /* enum err_kind; 0: it went well */
	char *error;
};
extern const struct json_field unpack_report_fields[];

#endif
