from torch_geometric_inertial.report.document import document, filled


def test_parts_of_a_template_are_not_templates():
    assert filled('<{{a}}|{{b}}>', dict(a='{{b}}', b='2')) == '<{{b}}|2>'


def test_a_page_needs_no_network_and_texts_of_others_are_texts():
    page = document('<p>{{body}}</p>', 'a &amp; b', ['</script><b>'], css='p { margin: 0 }', script='let one = 1;')
    assert '<title>a &amp; b</title>' in page and '<p>{{body}}</p>' in page and 'p { margin: 0 }' in page
    assert page.count('</script>') == 3 and "default-src 'none'" in page and ' src=' not in page.split('<script>')[0]
