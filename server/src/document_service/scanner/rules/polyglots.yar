// Files that another program would open as something else. Short strings are avoided: in 25 MB of compressed
// pixels any four bytes stand by chance once in 170 files.

rule archive_inside
{
    meta:
        code = "POLYGLOT"
    strings:
        $local = { 50 4B 03 04 }
        $central = { 50 4B 01 02 }
        $end = { 50 4B 05 06 }
    condition:
        // A ZIP is read from its end, which lies within 65,557 bytes of the file's end.
        $local and $central and $end and @end[#end] + 65557 >= filesize
}

rule other_container_inside
{
    meta:
        code = "POLYGLOT"
    strings:
        $ole = { D0 CF 11 E0 A1 B1 1A E1 }
        $seven = { 37 7A BC AF 27 1C 00 }
        $rar = { 52 61 72 21 1A 07 (00 | 01) }
        $cab = { 4D 53 43 46 00 00 00 00 }
    condition:
        any of them
}

rule pdf_inside
{
    meta:
        code = "POLYGLOT"
    strings:
        $pdf = "%PDF-"
    condition:
        (kind == "jpeg" or kind == "png" or kind == "tiff") and $pdf
        or kind == "" and $pdf in (1..1024)
}

rule page_inside_image
{
    meta:
        code = "POLYGLOT"
    strings:
        $html = /<html[\s>]/ nocase
        $doctype = "<!doctype html" nocase
        $script = /<script[\s>]/ nocase
        $iframe = /<iframe[\s>]/ nocase
        $svg = /<svg\s+(xmlns|onload)/ nocase
        $php = /<\?php\s/ nocase
        $hta = "<hta:application" nocase
    condition:
        kind != "pdf" and any of them
}

rule page_before_pdf
{
    meta:
        code = "POLYGLOT"
    strings:
        $html = /<(html|script|body|svg)[\s>]/ nocase
    condition:
        kind == "pdf" and $html in (0..1024)
}

rule script_in_jpeg_header
{
    meta:
        code = "POLYGLOT"
    condition:
        // A segment length that reads as the start of a comment in JavaScript.
        uint32be(0) == 0xFFD8FFE0 and uint16be(4) == 0x2F2A
}
