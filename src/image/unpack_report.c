#include "image/unpack_report.h"

#define FIELD(name, kind, member) { name, kind, offsetof(struct unpack_report, member) }
const struct json_field unpack_report_fields[] = {
	FIELD("diff_id", JSON_STR, result.diff_id),
	FIELD("format", JSON_STR, result.format),
	FIELD("size", JSON_U64, result.size),
	FIELD("entries", JSON_U64, result.entries),
	FIELD("disk_bytes", JSON_U64, result.disk_bytes),
	FIELD("inodes", JSON_U64, result.inodes),
	FIELD("opaque", JSON_STRV, result.opaque),
	FIELD("has_root", JSON_BOOL, result.has_root),
	FIELD("xattrs_dropped", JSON_U64, result.xattrs_dropped),
	FIELD("error_kind", JSON_U32, error_kind),
	FIELD("error", JSON_STR, error),
	{ 0 },
};
