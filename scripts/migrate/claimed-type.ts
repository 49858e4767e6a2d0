/**
 * What a client would say of a file by its name, where its source says nothing: of formats that their first bytes do not
 * show, or that are a container of another name. The rules of uploads (src/files/content-type.ts) judge it like any claim.
 */
const OFFICE = 'application/vnd.openxmlformats-officedocument'
const OPEN_DOCUMENT = 'application/vnd.oasis.opendocument'

const TYPES: Record<string, string> = {
  txt: 'text/plain', log: 'text/plain', md: 'text/plain', csv: 'text/csv', json: 'application/json', rtf: 'application/rtf',
  doc: 'application/msword', xls: 'application/vnd.ms-excel', ppt: 'application/vnd.ms-powerpoint',
  docx: `${OFFICE}.wordprocessingml.document`, xlsx: `${OFFICE}.spreadsheetml.sheet`, pptx: `${OFFICE}.presentationml.presentation`,
  odt: `${OPEN_DOCUMENT}.text`, ods: `${OPEN_DOCUMENT}.spreadsheet`, odp: `${OPEN_DOCUMENT}.presentation`,
  epub: 'application/epub+zip', ogg: 'audio/ogg', oga: 'audio/ogg', ogv: 'video/ogg', m4a: 'audio/mp4', weba: 'audio/webm'
}

/** `application/octet-stream` is what those say who know nothing. */
export function claimedType(said: string | undefined, filename: string): string | undefined {
  if (said !== undefined && !/^(application|binary)\/octet-stream\b/i.test(said)) return said
  return TYPES[/\.([a-z0-9]{1,5})$/i.exec(filename)?.[1]?.toLowerCase() ?? ''] ?? said
}
