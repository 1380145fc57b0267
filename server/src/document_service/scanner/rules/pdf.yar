// The structure walk reads a PDF as its newest revision. This rule reads the raw bytes: an action that an older
// revision or a repaired cross-reference table would bring back is found too.

rule pdf_action_in_raw_bytes
{
    meta:
        code = "ACTIVE_CONTENT"
    strings:
        $action = /\/S\s{0,8}\/(JavaScript|Launch|ImportData|SubmitForm|GoToE|GoToR|RichMediaExecute)[\s\/>\(\[]/
        $embedded = /\/Type\s{0,8}\/EmbeddedFile[\s\/>]/
    condition:
        kind == "pdf" and any of them
}
